// Package e2e holds tests against the official JavaScript packages: servers, clients, adapters
// and emitters. They need Node.js 20, redis-server, and what npm ci installs in this
// folder; without them they are skipped, and say so.
package e2e
