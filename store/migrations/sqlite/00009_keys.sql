-- +goose Up
CREATE TABLE keys (
	id          TEXT PRIMARY KEY,
	public      TEXT NOT NULL, -- PEM
	sealed      BLOB NOT NULL, -- the private key; empty once it has been replaced
	created_at  BIGINT NOT NULL,
	replaced_at BIGINT NOT NULL DEFAULT 0,
	expires_at  BIGINT NOT NULL DEFAULT 0,
	retired_at  BIGINT NOT NULL DEFAULT 0,
	CHECK (retired_at = 0 OR replaced_at > 0),
	CHECK ((replaced_at = 0) = (length(sealed) > 0))
);
CREATE UNIQUE INDEX keys_current ON keys (replaced_at) WHERE replaced_at = 0; -- one signs
