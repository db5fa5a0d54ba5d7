// Package proxies holds tests of the set-ups in deploy, and of those in the documentation of the official server,
// with the real programs: nginx, HAProxy and others in front of Atoll nodes, and in front of an Atoll node beside a
// Node.js node, with official clients. They need what the tests in e2e need, and the programs;
// what is missing is skipped, and said. What they find is the table in docs/load-balancing.md (make proxies).
package proxies
