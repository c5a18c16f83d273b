// SPDX-License-Identifier: Apache-2.0
// What both programs do with frames that come in: those that a router should see go to its sockets.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// What becomes of a frame. The order is that of `Outcomes` in src/program.rs.
enum outcome {
	TO_SOCKET,
	PASS_NO_SOCKET,      // the router has no socket on this queue
	PASS_LINK_LOCAL,     // STP, LLDP, LACP, pause: never forwarded (IEEE 802.1Q-2018 table 8-1)
	PASS_OTHER_PROTOCOL, // neither ARP nor IP, nor tagged
	PASS_RUNT,           // shorter than an Ethernet header
	OUTCOMES,
};

// One slot a receive queue; the number is set before loading.
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

// Frames by outcome.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, OUTCOMES);
	__type(key, __u32);
	__type(value, __u64);
} outcomes SEC(".maps");

static __always_inline int is_link_local(const unsigned char *mac)
{
	return mac[0] == 0x01 && mac[1] == 0x80 && mac[2] == 0xc2 && mac[3] == 0 && mac[4] == 0 &&
	       mac[5] <= 0x0f;
}

static __always_inline enum outcome classify(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = (void *)(long)ctx->data;
	__u32 queue = ctx->rx_queue_index;

	if ((void *)(ethernet + 1) > end)
		return PASS_RUNT;
	if (is_link_local(ethernet->h_dest))
		return PASS_LINK_LOCAL;
	switch (ethernet->h_proto) {
	case bpf_htons(ETH_P_ARP):
	case bpf_htons(ETH_P_IP):
	case bpf_htons(ETH_P_IPV6):
	case bpf_htons(ETH_P_8021Q):
	case bpf_htons(ETH_P_8021AD):
		return bpf_map_lookup_elem(&sockets, &queue) ? TO_SOCKET : PASS_NO_SOCKET;
	default:
		return PASS_OTHER_PROTOCOL;
	}
}

static __always_inline int receive(struct xdp_md *ctx)
{
	enum outcome outcome = classify(ctx);
	__u32 key = outcome;
	__u64 *count = bpf_map_lookup_elem(&outcomes, &key);

	if (count)
		*count += 1;
	switch (outcome) {
	case TO_SOCKET:
		return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS);
	case PASS_NO_SOCKET:
	case PASS_LINK_LOCAL:
	case PASS_OTHER_PROTOCOL:
	case PASS_RUNT:
	case OUTCOMES:
		break;
	}
	return XDP_PASS;
}
