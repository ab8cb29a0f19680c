-- The bytes of small requests lie in the queue.

ALTER TABLE entries ADD COLUMN data BLOB;
