-- Times are Unix milliseconds, 0 for none. Words are those of docs/glossary.md.

-- +goose Up
CREATE TABLE connections (
    project TEXT PRIMARY KEY REFERENCES projects (name) ON DELETE CASCADE,
    forge TEXT NOT NULL CHECK (forge IN ('github', 'gitlab', 'gitea', 'azure-devops')),
    api TEXT NOT NULL CHECK (api <> ''),
    repository TEXT NOT NULL CHECK (repository <> ''),
    repository_id TEXT NOT NULL DEFAULT '',
    link TEXT NOT NULL DEFAULT '', -- the repository's page
    forks TEXT NOT NULL CHECK (forks IN ('run', 'approve')),
    hook_ids TEXT NOT NULL DEFAULT '', -- separated by blanks
    synced INTEGER NOT NULL DEFAULT 0 CHECK (synced IN (0, 1)), -- the pull requests of before are known
    reacted BIGINT NOT NULL DEFAULT 0, -- the last event whose statuses and comments are on the forge
    problem TEXT NOT NULL DEFAULT '', -- what the forge refuses
    problem_at BIGINT NOT NULL DEFAULT 0,
    moves INTEGER NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL
);

CREATE TABLE credentials (
    name TEXT PRIMARY KEY CHECK (name <> ''),
    project TEXT NOT NULL REFERENCES projects (name) ON DELETE CASCADE,
    sealed BLOB NOT NULL -- encrypted with the key file
);

CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (name) ON DELETE CASCADE,
    delivery TEXT NOT NULL CHECK (delivery <> ''), -- the forge's id of it
    digest TEXT NOT NULL CHECK (digest <> ''),
    content TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('received', 'processed')),
    reason TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (project, delivery),
    UNIQUE (project, digest)
);
CREATE INDEX deliveries_open ON deliveries (project, due_at) WHERE state = 'received';
CREATE INDEX deliveries_age ON deliveries (created_at) WHERE state = 'processed';

CREATE TABLE commands (
    project TEXT NOT NULL REFERENCES projects (name) ON DELETE CASCADE,
    comment TEXT NOT NULL CHECK (comment <> ''), -- the forge's id of it: a comment is obeyed once
    pull BIGINT NOT NULL,
    text TEXT NOT NULL,
    author TEXT NOT NULL,
    allowed INTEGER NOT NULL CHECK (allowed IN (0, 1)),
    answer TEXT NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project, comment)
);
CREATE INDEX commands_pull ON commands (project, pull, created_at);

CREATE TABLE reactions (
    project TEXT NOT NULL REFERENCES projects (name) ON DELETE CASCADE,
    name TEXT NOT NULL CHECK (name <> ''), -- of a commit status or a comment
    sent TEXT NOT NULL, -- what the forge was told last
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (project, name)
);
CREATE INDEX reactions_age ON reactions (updated_at);

CREATE TABLE accounts (
    api TEXT NOT NULL CHECK (api <> ''),
    account TEXT NOT NULL CHECK (account <> ''), -- name on the forge, in lower case
    account_id TEXT NOT NULL DEFAULT '', -- the forge's id, once it was seen: a name may become another's
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    PRIMARY KEY (api, account)
);

ALTER TABLE pulls ADD COLUMN forge INTEGER NOT NULL DEFAULT 0 CHECK (forge IN (0, 1));
ALTER TABLE pulls ADD COLUMN link TEXT NOT NULL DEFAULT '';
ALTER TABLE pulls ADD COLUMN fork INTEGER NOT NULL DEFAULT 0 CHECK (fork IN (0, 1));
ALTER TABLE pulls ADD COLUMN held TEXT NOT NULL DEFAULT ''; -- a fork's head that waits for a member
ALTER TABLE runs ADD COLUMN fork INTEGER NOT NULL DEFAULT 0 CHECK (fork IN (0, 1));

DROP INDEX pulls_open;
CREATE UNIQUE INDEX pulls_open ON pulls (project, author, base, topic) WHERE state = 'open' AND forge = 0;

-- +goose Down
DROP INDEX pulls_open;
CREATE UNIQUE INDEX pulls_open ON pulls (project, author, base, topic) WHERE state = 'open';
ALTER TABLE runs DROP COLUMN fork;
ALTER TABLE pulls DROP COLUMN held;
ALTER TABLE pulls DROP COLUMN fork;
ALTER TABLE pulls DROP COLUMN link;
ALTER TABLE pulls DROP COLUMN forge;
DROP TABLE accounts;
DROP TABLE reactions;
DROP TABLE commands;
DROP TABLE deliveries;
DROP TABLE credentials;
DROP TABLE connections;
