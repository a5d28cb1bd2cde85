-- +goose Up
-- How many rows there are in which state, kept by triggers, so that nobody counts them: metrics are read often and
-- by anyone. A table of these four that is made anew needs its triggers anew.
CREATE TABLE totals (
    name TEXT NOT NULL, -- of the table
    state TEXT NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (name, state)
);
INSERT INTO totals SELECT 'runs', state, count(*) FROM runs GROUP BY state;
INSERT INTO totals SELECT 'approvals', state, count(*) FROM approvals GROUP BY state;
INSERT INTO totals SELECT 'deployments', state, count(*) FROM deployments GROUP BY state;
INSERT INTO totals SELECT 'pulls', state, count(*) FROM pulls GROUP BY state;

-- +goose StatementBegin
CREATE TRIGGER runs_came AFTER INSERT ON runs BEGIN
    INSERT INTO totals VALUES ('runs', NEW.state, 1) ON CONFLICT (name, state) DO UPDATE SET n = n + 1;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER runs_moved AFTER UPDATE OF state ON runs WHEN OLD.state <> NEW.state BEGIN
    UPDATE totals SET n = n - 1 WHERE name = 'runs' AND state = OLD.state;
    INSERT INTO totals VALUES ('runs', NEW.state, 1) ON CONFLICT (name, state) DO UPDATE SET n = n + 1;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER runs_went AFTER DELETE ON runs BEGIN
    UPDATE totals SET n = n - 1 WHERE name = 'runs' AND state = OLD.state;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER approvals_came AFTER INSERT ON approvals BEGIN
    INSERT INTO totals VALUES ('approvals', NEW.state, 1) ON CONFLICT (name, state) DO UPDATE SET n = n + 1;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER approvals_moved AFTER UPDATE OF state ON approvals WHEN OLD.state <> NEW.state BEGIN
    UPDATE totals SET n = n - 1 WHERE name = 'approvals' AND state = OLD.state;
    INSERT INTO totals VALUES ('approvals', NEW.state, 1) ON CONFLICT (name, state) DO UPDATE SET n = n + 1;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER approvals_went AFTER DELETE ON approvals BEGIN
    UPDATE totals SET n = n - 1 WHERE name = 'approvals' AND state = OLD.state;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER deployments_came AFTER INSERT ON deployments BEGIN
    INSERT INTO totals VALUES ('deployments', NEW.state, 1) ON CONFLICT (name, state) DO UPDATE SET n = n + 1;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER deployments_moved AFTER UPDATE OF state ON deployments WHEN OLD.state <> NEW.state BEGIN
    UPDATE totals SET n = n - 1 WHERE name = 'deployments' AND state = OLD.state;
    INSERT INTO totals VALUES ('deployments', NEW.state, 1) ON CONFLICT (name, state) DO UPDATE SET n = n + 1;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER deployments_went AFTER DELETE ON deployments BEGIN
    UPDATE totals SET n = n - 1 WHERE name = 'deployments' AND state = OLD.state;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER pulls_came AFTER INSERT ON pulls BEGIN
    INSERT INTO totals VALUES ('pulls', NEW.state, 1) ON CONFLICT (name, state) DO UPDATE SET n = n + 1;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER pulls_moved AFTER UPDATE OF state ON pulls WHEN OLD.state <> NEW.state BEGIN
    UPDATE totals SET n = n - 1 WHERE name = 'pulls' AND state = OLD.state;
    INSERT INTO totals VALUES ('pulls', NEW.state, 1) ON CONFLICT (name, state) DO UPDATE SET n = n + 1;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER pulls_went AFTER DELETE ON pulls BEGIN
    UPDATE totals SET n = n - 1 WHERE name = 'pulls' AND state = OLD.state;
END;
-- +goose StatementEnd

CREATE INDEX approvals_project ON approvals (project, id);
CREATE INDEX approvals_state ON approvals (state, id);
CREATE INDEX artifacts_project ON artifacts (project, kind, service);
CREATE INDEX artifacts_repository ON artifacts (repository, tag);
CREATE INDEX deployments_repository ON deployments (image, tag);
CREATE INDEX deployments_version ON deployments (version);
CREATE INDEX releases_run ON releases (run_id);
CREATE INDEX runs_version ON runs (version) WHERE version <> '';

-- +goose Down
DROP INDEX runs_version;
DROP INDEX releases_run;
DROP INDEX deployments_version;
DROP INDEX deployments_repository;
DROP INDEX artifacts_repository;
DROP INDEX artifacts_project;
DROP INDEX approvals_state;
DROP INDEX approvals_project;
DROP TRIGGER runs_came;
DROP TRIGGER runs_moved;
DROP TRIGGER runs_went;
DROP TRIGGER approvals_came;
DROP TRIGGER approvals_moved;
DROP TRIGGER approvals_went;
DROP TRIGGER deployments_came;
DROP TRIGGER deployments_moved;
DROP TRIGGER deployments_went;
DROP TRIGGER pulls_came;
DROP TRIGGER pulls_moved;
DROP TRIGGER pulls_went;
DROP TABLE totals;
