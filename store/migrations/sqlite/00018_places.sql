-- +goose Up
-- Who deploys to a namespace is asked before each deployment; and the runs of one service among those of many.
CREATE INDEX deployments_place ON deployments (json_extract(target, '$.cluster'), json_extract(target, '$.namespace'), project);
CREATE INDEX runs_service ON runs (project, service, id) WHERE service <> '';

-- +goose Down
DROP INDEX runs_service;
DROP INDEX deployments_place;
