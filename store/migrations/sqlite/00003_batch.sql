-- +goose Up
ALTER TABLE steps ADD COLUMN behind BIGINT NOT NULL DEFAULT 0; -- the run whose end makes it ready
CREATE INDEX steps_behind ON steps (behind) WHERE behind <> 0;
