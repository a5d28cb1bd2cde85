-- +goose Up
-- Key pairs with which repositories are fetched by SSH. A prepared one may come before its project.
CREATE TABLE deploy_keys (
    codebase TEXT NOT NULL CHECK (codebase <> ''), -- project, or project/name
    accepted INTEGER NOT NULL CHECK (accepted IN (0, 1)), -- in use; 0: prepared
    git_url TEXT NOT NULL CHECK (git_url <> ''),
    public TEXT NOT NULL, -- as in authorized_keys
    hosts TEXT NOT NULL, -- as in known_hosts
    sealed BLOB NOT NULL, -- the private key, encrypted with the key file
    problem TEXT NOT NULL DEFAULT '', -- why the last fetch did nothing
    created_at BIGINT NOT NULL,
    PRIMARY KEY (codebase, accepted)
);

-- +goose Down
DROP TABLE deploy_keys;
