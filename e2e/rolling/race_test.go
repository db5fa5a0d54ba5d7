//go:build race

package rolling

func init() { raced = true }
