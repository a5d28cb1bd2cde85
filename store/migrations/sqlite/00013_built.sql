-- +goose Up
-- The commit with which each service of a branch was done last: what its next push is compared with.
CREATE TABLE built (
    project TEXT NOT NULL REFERENCES projects (name) ON DELETE CASCADE,
    codebase TEXT NOT NULL DEFAULT '',
    ref TEXT NOT NULL,
    service TEXT NOT NULL CHECK (service <> ''),
    commit_hash TEXT NOT NULL, -- '': the service was removed since
    run_id BIGINT NOT NULL,    -- of that commit
    ran BIGINT NOT NULL DEFAULT 0, -- the newest run in which its steps succeeded; 0: it was only found unchanged
    PRIMARY KEY (project, codebase, ref, service)
);

-- +goose Down
DROP TABLE built;
