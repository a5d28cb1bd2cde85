package buildkit

import (
	"encoding/json"
	"fmt"
	"net/netip"
)

// joinPlugin is the name of the CNI plugin of Slipway's own.
const joinPlugin = "slipway-bridge"

// joinScript is that plugin: the bridge of builds, and before it the network of a test's run, of which
// Slipway has written under the container's host name what the container gets there. A process in the container
// begins when both are in place. It has no input but names of files that Slipway made, and follows each once.
const joinScript = `#!/bin/sh
# Written by Slipway at each start. The network of a container is the bridge of builds; a container of a test
# with services is joined to the network of its run first, once.
plugins=${0%/*}
case "$CNI_COMMAND:$CNI_ARGS" in
ADD:*K8S_POD_NAME=*)
	name=${CNI_ARGS#*K8S_POD_NAME=}
	name=${name%%;*}
	join=${plugins%/*}/joins/$name
	case "$name" in */* | .*) join=/nowhere ;; esac
	if [ -f "$join/network.json" ]; then
		CNI_IFNAME=` + runInterface + ` nsenter --net="$join/netns" "$plugins/bridge" <"$join/network.json" >/dev/null || exit 1
		rm -f "$join/network.json"
	fi
	;;
esac
exec "$plugins/bridge"
`

// runInterface is the interface of a run's network in its containers.
const runInterface = "run0"

// runSubnet is the network of every run that has services: each is in a network namespace of its own, so that all
// may have the same addresses. They are of the range for benchmarks (RFC 2544), which nobody has.
var runSubnet = netip.MustParsePrefix("198.19.255.240/28")

// runAddress is the address of a run's container: 0 is the network's own, 1 the tests', then the services.
func runAddress(i int) netip.Addr {
	a := runSubnet.Addr().Next()
	for range i {
		a = a.Next()
	}
	return a
}

// renderJoin is the network of a run for one of its containers.
func renderJoin(addr netip.Addr) ([]byte, error) {
	raw, err := json.Marshal(map[string]any{
		"cniVersion": "1.0.0", "name": "run", "type": "bridge", "bridge": "run", "isGateway": true,
		"ipam": map[string]any{"type": "static", "addresses": []any{map[string]string{
			"address": netip.PrefixFrom(addr, runSubnet.Bits()).String(), "gateway": runAddress(0).String(),
		}}},
	})
	if err != nil {
		return nil, fmt.Errorf("network of a run: %w", err)
	}
	return raw, nil
}
