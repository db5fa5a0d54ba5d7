package redisbus_test

import (
	"testing"

	"github.com/atollhq/atoll/cluster"
	"github.com/atollhq/atoll/cluster/clustertest"
	"github.com/atollhq/atoll/internal/redistest"
)

func TestBus(t *testing.T) {
	s := redistest.Start(t)
	clustertest.TestBus(t, func(t *testing.T) cluster.Bus { return open(t, s, nil) })
}

func TestCluster(t *testing.T) {
	s := redistest.Start(t)
	clustertest.TestCluster(t, func(t *testing.T) cluster.Bus { return open(t, s, nil) })
}
