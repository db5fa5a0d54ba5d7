// Package rolling tests what clients notice when the nodes behind them are drained and replaced, one after the other.
package rolling
