// Package deploy tests deployment, verification, approval and rollback with their drivers against a
// real Kubernetes: KUBECONFIG names it, SLIPWAY_E2E=1 turns the tests on, SLIPWAY_CLUSTER is the
// slipway-cluster program that maps a registry into it. It holds nothing but tests.
package deploy
