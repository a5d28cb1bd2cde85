-- +goose Up
-- A service that a plan leaves to an earlier run, which waits for people with the same of it: that run, and the newest
-- commit at which it was the same. It matters while that run is the newest that has the service.
ALTER TABLE built ADD COLUMN left_to BIGINT NOT NULL DEFAULT 0;
ALTER TABLE built ADD COLUMN left_at TEXT NOT NULL DEFAULT '';
-- What may be gone back to, however much was deployed since that may not.
CREATE INDEX deployments_verified ON deployments (project, environment, service, id) WHERE verified_at > 0 AND state IN ('verified', 'replaced');

-- +goose Down
DROP INDEX deployments_verified;
ALTER TABLE built DROP COLUMN left_at;
ALTER TABLE built DROP COLUMN left_to;
