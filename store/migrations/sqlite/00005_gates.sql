-- +goose Up
CREATE TABLE gates (
	id          INTEGER PRIMARY KEY,
	project     TEXT NOT NULL REFERENCES projects (name),
	run_id      BIGINT NOT NULL REFERENCES runs (id),
	step_id     BIGINT NOT NULL REFERENCES steps (id),
	step        TEXT NOT NULL,
	gate        TEXT NOT NULL,
	service     TEXT NOT NULL,
	environment TEXT NOT NULL,
	verdict     TEXT NOT NULL CHECK (verdict IN ('pass', 'warn', 'fail')),
	summary     TEXT NOT NULL,
	reasons     TEXT NOT NULL, -- JSON
	created_at  BIGINT NOT NULL,
	UNIQUE (step_id, gate, environment)
);
CREATE INDEX gates_run ON gates (run_id);
CREATE INDEX gates_service ON gates (project, service, run_id);

CREATE TABLE waivers (
	id           INTEGER PRIMARY KEY,
	project      TEXT NOT NULL REFERENCES projects (name),
	gate         TEXT NOT NULL,
	subject      TEXT NOT NULL,
	service      TEXT NOT NULL,     -- '': every
	environment  TEXT NOT NULL,     -- '': every
	reason       TEXT NOT NULL CHECK (reason <> ''),
	author       TEXT NOT NULL,
	expires_at   BIGINT NOT NULL,
	created_at   BIGINT NOT NULL,
	withdrawn_at BIGINT NOT NULL DEFAULT 0,
	withdrawn_by TEXT NOT NULL DEFAULT ''
);
CREATE INDEX waivers_project ON waivers (project, withdrawn_at, expires_at);

-- what a chart step rendered: JSON, gzip
CREATE TABLE manifests (
	step_id BIGINT PRIMARY KEY REFERENCES steps (id),
	report  BLOB NOT NULL
);
