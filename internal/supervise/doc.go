// Package supervise runs several processes of one program on a machine, each with a port of its own: it starts
// them, waits until they serve, starts those again that end, replaces them one by one, and ends them.
//
// The demo has a supervisor of its own, for nodes that are killed on purpose and stay down until somebody
// brings them back, and that tell it where they serve.
package supervise
