// SPDX-License-Identifier: Apache-2.0
// Sends to the router's sockets what a router should see, and passes the rest to the kernel.

#include "receive.bpf.h"

SEC("xdp")
int weir_xdp(struct xdp_md *ctx)
{
	return receive(ctx);
}

char LICENSE[] SEC("license") = "Apache-2.0";
