-- +goose Up
-- A service that a plan leaves to an earlier run, which waits for people with the same of it: that run, and the newest
-- commit at which it was the same. It matters while that run is the newest that has the service.
ALTER TABLE built ADD COLUMN left_to BIGINT NOT NULL DEFAULT 0;
ALTER TABLE built ADD COLUMN left_at TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE built DROP COLUMN left_at;
ALTER TABLE built DROP COLUMN left_to;
