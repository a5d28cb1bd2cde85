-- +goose Up
-- what scanners found in an image (digest sha256:...) or a folder of the source (digest tree:...)
CREATE TABLE scans (
	id         INTEGER PRIMARY KEY,
	project    TEXT NOT NULL REFERENCES projects (name),
	digest     TEXT NOT NULL,
	database   TEXT NOT NULL,           -- checksum of the vulnerability database, '' for none
	scanner    TEXT NOT NULL,
	image      TEXT NOT NULL,
	scanned_at BIGINT NOT NULL,
	seen       INTEGER NOT NULL,        -- 1: it belongs to a run, or what is new in it was told
	sbom       TEXT NOT NULL,           -- digest of the SPDX document, '' for none
	report     BLOB NOT NULL,           -- JSON, gzip
	UNIQUE (project, digest, database, scanner)
);
CREATE INDEX scans_digest ON scans (project, digest, scanned_at);

CREATE TABLE sboms (
	project  TEXT NOT NULL REFERENCES projects (name),
	digest   TEXT NOT NULL,
	document BLOB NOT NULL,             -- SPDX JSON, gzip
	PRIMARY KEY (project, digest)
);

-- what the scan of a step found, with the secrets of the folder
CREATE TABLE step_scans (
	step_id BIGINT PRIMARY KEY REFERENCES steps (id),
	report  BLOB NOT NULL               -- JSON, gzip
);
