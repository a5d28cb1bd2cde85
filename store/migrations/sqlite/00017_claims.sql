-- +goose Up
-- Which run is about to publish a version, recorded before its tag is. It holds while that run may still publish.
CREATE TABLE claims (
    project TEXT NOT NULL REFERENCES projects (name),
    service TEXT NOT NULL,
    semver TEXT NOT NULL, -- as releases.semver
    run_id BIGINT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    claimed_at BIGINT NOT NULL,
    PRIMARY KEY (project, service, semver)
);

-- +goose Down
DROP TABLE claims;
