-- What each request holds of the spool, and all of a state together.
ALTER TABLE requests ADD COLUMN spooled_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN spooled_files INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counts ADD COLUMN spooled_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counts ADD COLUMN spooled_files INTEGER NOT NULL DEFAULT 0;
DROP TRIGGER count_new;
DROP TRIGGER count_moved;
DROP TRIGGER count_forgotten;
CREATE TRIGGER count_new AFTER INSERT ON requests BEGIN
    UPDATE counts
    SET requests = requests + 1, spooled_bytes = spooled_bytes + NEW.spooled_bytes,
        spooled_files = spooled_files + NEW.spooled_files
    WHERE state = NEW.state;
END;
CREATE TRIGGER count_moved AFTER UPDATE OF state, spooled_bytes, spooled_files ON requests
WHEN NEW.state <> OLD.state OR NEW.spooled_bytes <> OLD.spooled_bytes OR NEW.spooled_files <> OLD.spooled_files
BEGIN
    UPDATE counts
    SET requests = requests - 1, spooled_bytes = spooled_bytes - OLD.spooled_bytes,
        spooled_files = spooled_files - OLD.spooled_files
    WHERE state = OLD.state;
    UPDATE counts
    SET requests = requests + 1, spooled_bytes = spooled_bytes + NEW.spooled_bytes,
        spooled_files = spooled_files + NEW.spooled_files
    WHERE state = NEW.state;
END;
CREATE TRIGGER count_forgotten AFTER DELETE ON requests BEGIN
    UPDATE counts
    SET requests = requests - 1, spooled_bytes = spooled_bytes - OLD.spooled_bytes,
        spooled_files = spooled_files - OLD.spooled_files
    WHERE state = OLD.state;
END;
