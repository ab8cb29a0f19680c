-- What a request has put itself, and when: the rest is looked at again right before its record is sent.
ALTER TABLE requests ADD COLUMN sent_since REAL;
ALTER TABLE blobs ADD COLUMN sender INTEGER;
