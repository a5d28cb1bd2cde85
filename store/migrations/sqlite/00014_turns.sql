-- +goose Up
-- How many plans of a branch were stored and runs of it retried: a plan that was made before the last of them
-- is made again.
CREATE TABLE turns (
    project TEXT NOT NULL REFERENCES projects (name) ON DELETE CASCADE,
    codebase TEXT NOT NULL DEFAULT '',
    ref TEXT NOT NULL,
    turn BIGINT NOT NULL,
    PRIMARY KEY (project, codebase, ref)
);
ALTER TABLE built DROP COLUMN ran;

-- +goose Down
ALTER TABLE built ADD COLUMN ran BIGINT NOT NULL DEFAULT 0;
DROP TABLE turns;
