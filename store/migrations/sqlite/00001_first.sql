-- Times are Unix milliseconds, 0 for none. Words are those of docs/glossary.md.

-- +goose Up
CREATE TABLE projects (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE CHECK (name <> ''),
    default_branch TEXT NOT NULL,
    git_url TEXT NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL
);

CREATE TABLE users (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE CHECK (name <> ''),
    admin INTEGER NOT NULL DEFAULT 0 CHECK (admin IN (0, 1)),
    created_at BIGINT NOT NULL
);

CREATE TABLE members (
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    project TEXT NOT NULL REFERENCES projects (name) ON DELETE CASCADE,
    role TEXT NOT NULL CHECK (role IN ('viewer', 'developer', 'approver', 'admin')),
    PRIMARY KEY (user_id, project)
);

CREATE TABLE robots (
    user_id BIGINT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    project TEXT NOT NULL REFERENCES projects (name) ON DELETE CASCADE,
    environment TEXT NOT NULL,
    sealed BLOB NOT NULL, -- the robot's token, encrypted with the key file
    UNIQUE (project, environment)
);

CREATE TABLE tokens (
    id INTEGER PRIMARY KEY,
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL DEFAULT 0,
    used_at BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX tokens_user ON tokens (user_id);

CREATE TABLE links (
    hash TEXT PRIMARY KEY,
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    expires_at BIGINT NOT NULL,
    used_at BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE sessions (
    hash TEXT PRIMARY KEY,
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE clusters (
    name TEXT PRIMARY KEY CHECK (name <> ''),
    context TEXT NOT NULL,
    server TEXT NOT NULL,
    sealed BLOB NOT NULL, -- kubeconfig, encrypted with the key file
    created_at BIGINT NOT NULL
);

CREATE TABLE settings (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE refs_seen (
    project TEXT NOT NULL REFERENCES projects (name) ON DELETE CASCADE,
    ref TEXT NOT NULL,
    commit_hash TEXT NOT NULL,
    PRIMARY KEY (project, ref)
);

CREATE TABLE pulls (
    project TEXT NOT NULL REFERENCES projects (name) ON DELETE CASCADE,
    number BIGINT NOT NULL CHECK (number > 0),
    title TEXT NOT NULL,
    base TEXT NOT NULL,
    topic TEXT NOT NULL DEFAULT '',
    head TEXT NOT NULL,
    author TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'merged', 'closed')),
    merged_as TEXT NOT NULL DEFAULT '',
    reviewers TEXT NOT NULL DEFAULT '', -- of head, separated by blanks
    moves INTEGER NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (project, number)
);
CREATE UNIQUE INDEX pulls_open ON pulls (project, author, base, topic) WHERE state = 'open';

CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (name),
    event TEXT NOT NULL CHECK (event IN ('push', 'pull-request', 'merge', 'release', 'rollback')),
    ref TEXT NOT NULL,
    base TEXT NOT NULL DEFAULT '',
    commit_hash TEXT NOT NULL,
    title TEXT NOT NULL DEFAULT '',
    actor TEXT NOT NULL DEFAULT '',
    pull BIGINT NOT NULL DEFAULT 0,
    service TEXT NOT NULL DEFAULT '',
    version TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'waiting', 'succeeded', 'failed', 'errored', 'cancelled')),
    reason TEXT NOT NULL DEFAULT '',
    cancel TEXT NOT NULL DEFAULT '', -- why it is to stop; its running steps may still be ending
    moves INTEGER NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    started_at BIGINT NOT NULL DEFAULT 0,
    finished_at BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX runs_project ON runs (project, id);
CREATE INDEX runs_ref ON runs (project, ref, id);
CREATE INDEX runs_commit ON runs (commit_hash);
CREATE INDEX runs_state ON runs (state, id);

CREATE TABLE pushes (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (name),
    ref TEXT NOT NULL,
    old TEXT NOT NULL,
    new TEXT NOT NULL,
    actor TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('received', 'accepted', 'refused')),
    reason TEXT NOT NULL DEFAULT '',
    run_id BIGINT REFERENCES runs (id),
    created_at BIGINT NOT NULL
);
CREATE INDEX pushes_open ON pushes (project, id) WHERE state = 'received';

CREATE TABLE plans (
    run_id BIGINT PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    plan TEXT NOT NULL -- decisions and configCommit; the steps are rows of their own
);

CREATE TABLE steps (
    id INTEGER PRIMARY KEY,
    run_id BIGINT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    project TEXT NOT NULL,
    key TEXT NOT NULL CHECK (key <> ''),
    kind TEXT NOT NULL CHECK (kind <> ''),
    service TEXT NOT NULL DEFAULT '',
    environment TEXT NOT NULL DEFAULT '',
    spec TEXT NOT NULL,
    lock TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL CHECK (state IN ('blocked', 'ready', 'running', 'retrying', 'waiting',
        'succeeded', 'failed', 'errored', 'skipped', 'cancelled')),
    reason TEXT NOT NULL DEFAULT '',
    fulfilled INTEGER NOT NULL DEFAULT 0 CHECK (fulfilled IN (0, 1)), -- what needs it may start
    lock_wait INTEGER NOT NULL DEFAULT 0 CHECK (lock_wait IN (0, 1)), -- retrying because the lock is taken
    attempt INTEGER NOT NULL DEFAULT 0,
    errors INTEGER NOT NULL DEFAULT 0,
    errors_since BIGINT NOT NULL DEFAULT 0,
    job INTEGER NOT NULL DEFAULT 0,   -- number of the newest job; older jobs have no effect
    moves INTEGER NOT NULL DEFAULT 0, -- counts transitions; part of the event's key
    node TEXT NOT NULL DEFAULT '',
    ready_at BIGINT NOT NULL DEFAULT 0,
    started_at BIGINT NOT NULL DEFAULT 0,
    finished_at BIGINT NOT NULL DEFAULT 0,
    UNIQUE (run_id, key),
    CHECK (fulfilled = 0 OR state IN ('succeeded', 'skipped')),
    CHECK (lock_wait = 0 OR (state = 'retrying' AND lock <> '')),
    CHECK (state <> 'running' OR attempt > 0)
);
CREATE INDEX steps_service ON steps (project, service, run_id);
CREATE INDEX steps_lock ON steps (lock) WHERE lock <> '' AND state IN ('ready', 'running', 'retrying');
CREATE INDEX steps_open ON steps (state) WHERE state IN ('ready', 'running', 'retrying', 'waiting');

CREATE TABLE locks (
    name TEXT PRIMARY KEY,
    step_id BIGINT UNIQUE REFERENCES steps (id), -- the holder; NULL: free
    run_id BIGINT NOT NULL                       -- of the holder or the last one, which goes first
);

CREATE TABLE journal (
    step_id BIGINT NOT NULL REFERENCES steps (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (step_id, key)
);

CREATE TABLE reports (
    step_id BIGINT PRIMARY KEY REFERENCES steps (id) ON DELETE CASCADE,
    report TEXT NOT NULL
);

CREATE TABLE artifacts (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    run_id BIGINT NOT NULL REFERENCES runs (id),
    step TEXT NOT NULL,
    service TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind <> ''),
    repository TEXT NOT NULL,
    tag TEXT NOT NULL,
    digest TEXT NOT NULL,
    subject TEXT NOT NULL DEFAULT '',
    size BIGINT NOT NULL DEFAULT 0,
    path TEXT NOT NULL DEFAULT '',
    commit_hash TEXT NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL,
    UNIQUE (run_id, step, kind, repository, tag, digest)
);
CREATE INDEX artifacts_digest ON artifacts (digest);
CREATE INDEX artifacts_tag ON artifacts (tag);

CREATE TABLE releases (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (name),
    service TEXT NOT NULL,
    version TEXT NOT NULL, -- the leaf as written
    semver TEXT NOT NULL,  -- without a leading v: v1.0.2 and 1.0.2 are one version
    commit_hash TEXT NOT NULL,
    run_id BIGINT NOT NULL REFERENCES runs (id),
    image_digest TEXT NOT NULL,
    chart_digest TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (project, service, semver)
);
CREATE INDEX releases_semver ON releases (semver);
CREATE INDEX releases_commit ON releases (commit_hash);
CREATE INDEX releases_image ON releases (image_digest);
CREATE INDEX releases_chart ON releases (chart_digest);

CREATE TABLE quarantines (
    project TEXT NOT NULL REFERENCES projects (name),
    service TEXT NOT NULL,
    semver TEXT NOT NULL, -- as releases.semver; a branch's image tag for what is not a release
    reason TEXT NOT NULL,
    moves INTEGER NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    lifted_at BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (project, service, semver)
);

CREATE TABLE deployments (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (name),
    environment TEXT NOT NULL,
    service TEXT NOT NULL,
    target TEXT NOT NULL, -- the whole target as JSON
    helm_release TEXT NOT NULL DEFAULT '',
    version TEXT NOT NULL,
    commit_hash TEXT NOT NULL,
    run_id BIGINT NOT NULL REFERENCES runs (id),
    step TEXT NOT NULL,
    image TEXT NOT NULL DEFAULT '',
    tag TEXT NOT NULL DEFAULT '',
    image_digest TEXT NOT NULL DEFAULT '',
    chart TEXT NOT NULL DEFAULT '',
    chart_digest TEXT NOT NULL DEFAULT '',
    chart_version TEXT NOT NULL DEFAULT '',
    values_digest TEXT NOT NULL DEFAULT '',
    revision INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL CHECK (state IN ('deploying', 'deployed', 'verified', 'unhealthy',
        'rolled-back', 'replaced', 'deploy-failed')),
    reason TEXT NOT NULL DEFAULT '',
    verified_at BIGINT NOT NULL DEFAULT 0, -- when it was first found healthy
    moves INTEGER NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (run_id, step, environment, service)
);
CREATE INDEX deployments_target ON deployments (project, environment, service, id);
CREATE INDEX deployments_current ON deployments (project, environment, service, id) WHERE state IN ('deployed', 'verified', 'unhealthy');
CREATE INDEX deployments_pending ON deployments (project, id) WHERE state = 'deploying';
CREATE INDEX deployments_image ON deployments (image_digest);
CREATE INDEX deployments_chart ON deployments (chart_digest);
CREATE INDEX deployments_commit ON deployments (commit_hash);
CREATE INDEX deployments_revision ON deployments (helm_release, revision);

CREATE TABLE approvals (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (name),
    run_id BIGINT NOT NULL REFERENCES runs (id),
    step_id BIGINT NOT NULL REFERENCES steps (id),
    step TEXT NOT NULL,
    service TEXT NOT NULL,
    environment TEXT NOT NULL,
    version TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'approved', 'rejected', 'superseded')),
    reason TEXT NOT NULL DEFAULT '', -- what superseded it
    required INTEGER NOT NULL CHECK (required > 0),
    not_requester INTEGER NOT NULL DEFAULT 0 CHECK (not_requester IN (0, 1)),
    requester TEXT NOT NULL DEFAULT '',
    image_digest TEXT NOT NULL DEFAULT '',
    chart_digest TEXT NOT NULL DEFAULT '',
    values_digest TEXT NOT NULL DEFAULT '',
    base_revision INTEGER NOT NULL DEFAULT 0,
    diff TEXT NOT NULL DEFAULT '',
    notes TEXT NOT NULL DEFAULT '[]',
    created_at BIGINT NOT NULL,
    decided_at BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX approvals_step ON approvals (step_id) WHERE state = 'waiting';
CREATE INDEX approvals_run ON approvals (run_id);
CREATE INDEX approvals_waiting ON approvals (project, environment, service) WHERE state = 'waiting';
CREATE INDEX approvals_image ON approvals (image_digest);

CREATE TABLE votes (
    approval_id BIGINT NOT NULL REFERENCES approvals (id) ON DELETE CASCADE,
    voter TEXT NOT NULL CHECK (voter <> ''),
    approve INTEGER NOT NULL CHECK (approve IN (0, 1)),
    reason TEXT NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL,
    PRIMARY KEY (approval_id, voter)
);

CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE, -- what makes the event one: each exists exactly once
    time BIGINT NOT NULL,
    kind TEXT NOT NULL,
    project TEXT NOT NULL DEFAULT '',
    run_id BIGINT NOT NULL DEFAULT 0,
    step TEXT NOT NULL DEFAULT '',
    actor TEXT NOT NULL DEFAULT '',
    message TEXT NOT NULL,
    data TEXT NOT NULL DEFAULT '',
    hash TEXT NOT NULL -- sha256 of the hash before and this event's canonical JSON
);
CREATE INDEX events_run ON events (run_id, id);
CREATE INDEX events_project ON events (project, id);

-- +goose StatementBegin
CREATE TRIGGER events_keep BEFORE UPDATE ON events BEGIN
    SELECT RAISE(ABORT, 'events are never changed');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER events_stay BEFORE DELETE ON events BEGIN
    SELECT RAISE(ABORT, 'events are never removed');
END;
-- +goose StatementEnd

-- +goose Down
DROP TABLE events;
DROP TABLE votes;
DROP TABLE approvals;
DROP TABLE deployments;
DROP TABLE quarantines;
DROP TABLE releases;
DROP TABLE artifacts;
DROP TABLE reports;
DROP TABLE journal;
DROP TABLE locks;
DROP TABLE steps;
DROP TABLE plans;
DROP TABLE pushes;
DROP TABLE runs;
DROP TABLE pulls;
DROP TABLE refs_seen;
DROP TABLE settings;
DROP TABLE clusters;
DROP TABLE sessions;
DROP TABLE links;
DROP TABLE tokens;
DROP TABLE robots;
DROP TABLE members;
DROP TABLE users;
DROP TABLE projects;
