-- +goose Up
ALTER TABLE steps ADD COLUMN inputs TEXT NOT NULL DEFAULT ''; -- hash of what the result depends on
ALTER TABLE steps ADD COLUMN reused_from BIGINT NOT NULL DEFAULT 0; -- the run that the result is from
CREATE INDEX steps_inputs ON steps (project, inputs) WHERE inputs <> '';
