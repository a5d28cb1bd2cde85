-- Times are Unix milliseconds. Words are those of docs/glossary.md.

-- +goose Up

-- The keys of the tests of a report, sorted; reports with the same tests share them.
CREATE TABLE test_names (
    digest TEXT PRIMARY KEY CHECK (digest <> ''),
    names BLOB NOT NULL -- differences of the keys, as varints
);

-- A report in short: its numbers, and the state of each of its tests.
CREATE TABLE test_totals (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (name),
    service TEXT NOT NULL,
    run_id BIGINT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    step_id BIGINT NOT NULL REFERENCES steps (id) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    ref TEXT NOT NULL,
    commit_hash TEXT NOT NULL,
    main INTEGER NOT NULL CHECK (main IN (0, 1)), -- of the default branch
    fork INTEGER NOT NULL CHECK (fork IN (0, 1)),
    inputs TEXT NOT NULL,
    reused_from BIGINT NOT NULL DEFAULT 0,
    passed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    new_failures INTEGER NOT NULL,
    flaky INTEGER NOT NULL,
    duration BIGINT NOT NULL, -- nanoseconds
    covered BIGINT NOT NULL DEFAULT 0,
    coverable BIGINT NOT NULL DEFAULT 0, -- 0: no coverage report
    names TEXT NOT NULL REFERENCES test_names (digest),
    states BLOB NOT NULL, -- one byte for each of the names, compressed
    created_at BIGINT NOT NULL,
    UNIQUE (step_id, attempt)
);
CREATE INDEX test_totals_service ON test_totals (project, service, main, id);
CREATE INDEX test_totals_ref ON test_totals (project, service, ref, id);
CREATE INDEX test_totals_names ON test_totals (names);
CREATE INDEX test_totals_run ON test_totals (run_id);

-- +goose Down
DROP TABLE test_totals;
DROP TABLE test_names;
