//! An agent is killed in the middle: what was asked is asked again, and all is as it should be.

use std::net::SocketAddr;

use crate::agent::{Agent, lasting};
use crate::conversations::Conversations;
use crate::figures::Kernel;
use crate::network::Network;
use crate::relay::Order;

const CONNECTIONS: usize = 50;

#[test]
#[ignore = "needs root"]
fn connections_live_through_agents_that_are_killed_between_and_within_the_steps() {
    let network = Network::new();
    let mut agents = network.kernels.each_ref().map(Agent::start);
    let to: SocketAddr = "203.0.113.2:5001".parse().unwrap();
    let talk = Conversations::start(&network.client, &network.server, &[to; CONNECTIONS], 3);
    talk.let_flow(10_000).unwrap();
    network.relay.tell(Order::Hold);
    let chunks = agents[0].get("proto=tcp");
    assert_eq!(chunks.len(), CONNECTIONS);
    // Between the get and the put: both.
    agents[0].kill_and_start(&network.kernels[0]);
    agents[1].kill_and_start(&network.kernels[1]);
    assert_eq!(lasting(&agents[0].get("proto=tcp")), lasting(&chunks));
    let (first, _) = chunks.split_at(CONNECTIONS / 2);
    // Within the put, of which some is in.
    let kernel = &network.kernels[1];
    let has_some = || Kernel::of(kernel).entries > CONNECTIONS / 4;
    agents[1].kill_while_it_takes_in(kernel, &chunks, has_some);
    println!("killed with {} entries", Kernel::of(kernel).entries);
    agents[1].put_all(&chunks);
    assert_eq!(lasting(&agents[1].get("proto=tcp")), lasting(&chunks));
    // Within the deletion.
    agents[0].del(first);
    agents[0].kill_and_start(&network.kernels[0]);
    assert_eq!(agents[0].del(&chunks), (CONNECTIONS / 2) as u64);
    network.relay.tell(Order::Steer(1));
    talk.let_flow(10_000).unwrap();
    println!("{:?}", network.kernels.each_ref().map(Kernel::of));
    let ended = talk.finish().unwrap();
    let bytes = ended.bytes;
    println!("{bytes} bytes arrived as they were sent");
    assert_eq!(network.kernels.each_ref().map(|kernel| Kernel::of(kernel).strangers), [0, 0]);
}
