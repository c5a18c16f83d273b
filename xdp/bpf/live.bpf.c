// SPDX-License-Identifier: Apache-2.0
// The same for frames that come in, and a way out: the kernel runs it for frames of its own
// (BPF_F_TEST_XDP_LIVE_FRAMES), fills each with the next packet of a queue, and sends it to the
// device. One program does both, since the kernel takes a program that is attached nowhere out of
// its dispatcher after each run, and waits for all processors then.

#include "receive.bpf.h"

// As in src/live.rs and src/sender.rs.
#define SLOTS 128
#define SHORTEST 14
#define LONGEST 3408
#define PAGE 4096
// The verifier lets a pointer and a number be less than 512 MiB apart: memory of twice that is reached
// in two steps.
#define STRIDE ((1 << 29) - PAGE)

struct packet {
	__u32 offset; // in `memory`
	__u32 len;
};

// The packets of one run, written by the worker before it: the words of src/live.rs.
struct ring {
	__u32 next;
	__u32 sent;
	struct packet packets[SLOTS];
	char rest[PAGE - 8 - SLOTS * sizeof(struct packet)];
};

// The packet memory of the process, and LONGEST bytes or more behind it; the size is set before loading.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, PAGE);
} memory SEC(".maps");

// One a transmit queue; the number is set before loading.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ring);
} rings SEC(".maps");

// The device.
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, 4);
} out SEC(".maps");

const volatile __u32 device;
const volatile __u32 memory_bytes;

// The queue of a run is how many words of metadata its frames have. It can not be in the frame: one
// that has come back within the run still has the packet that it was sent with.
static __always_inline int send(struct xdp_md *ctx)
{
	__u32 meta = ctx->data - ctx->data_meta;
	__u32 queue = meta / 4;
	__u32 zero = 0;
	__u32 next, offset, len;
	struct ring *ring;
	char *frames;

	// It is not for the other end.
	if (meta && bpf_xdp_adjust_meta(ctx, meta))
		return XDP_ABORTED;
	ring = bpf_map_lookup_elem(&rings, &queue);
	frames = bpf_map_lookup_elem(&memory, &zero);
	if (!ring || !frames)
		return XDP_ABORTED;
	next = ring->next;
	if (next >= SLOTS)
		return XDP_ABORTED;
	ring->next = next + 1;
	// Read once: the memory is the worker's as well.
	offset = *(volatile __u32 *)&ring->packets[next].offset;
	len = *(volatile __u32 *)&ring->packets[next].len;
	if (offset >= memory_bytes || len < SHORTEST || len > LONGEST)
		return XDP_ABORTED;
	if (offset >= STRIDE) {
		frames += STRIDE;
		offset -= STRIDE;
	}
	barrier_var(frames);
	barrier_var(offset);
	if (offset >= STRIDE)
		return XDP_ABORTED;
	if (bpf_xdp_adjust_tail(ctx, (int)len - SHORTEST))
		return XDP_ABORTED;
	if (bpf_xdp_store_bytes(ctx, 0, frames + offset, len))
		return XDP_ABORTED;
	ring->sent += 1;
	return bpf_redirect_map(&out, 0, XDP_ABORTED);
}

SEC("xdp")
int weir_xdp_live(struct xdp_md *ctx)
{
	// A run has the loopback device of its network namespace as the one where frames come in.
	if (ctx->ingress_ifindex != device)
		return send(ctx);
	return receive(ctx);
}

char LICENSE[] SEC("license") = "Apache-2.0";
