package engine

import "testing"

// BenchmarkConnect opens a session over WebSocket and ends it; client and server.
func BenchmarkConnect(b *testing.B) {
	g, _ := benchRig(b, false)
	b.ReportAllocs()
	for b.Loop() {
		g.openWS().Close()
	}
}
