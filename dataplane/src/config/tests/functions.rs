//! Network functions in the configuration: their memory and their time-outs.

use super::*;
use crate::nf::{FunctionConfig, ids};

#[test]
fn what_network_functions_may_take_is_part_of_the_memory_that_is_asked_for() {
    let nf = "[[nf]]\nkind = 'ids'\n";
    accept(nf);
    let words = ["the machine has 4096 MiB", "lower memory_max in [[nf]], own_flows", "streams"];
    refuse_one(&format!("{nf}memory_max = '64MiB'\n"), 1, &words);
    let own = "[flow_table]\nown_flows = 4194304\n[[nf]]\nkind = 'firewall'\n";
    refuse_one(own, 3, &["own_flows in [flow_table] or instances_max in [dataplane]"]);
    accept("[flow_table]\nown_flows = 4194304\n");
    accept(&format!("[dataplane]\ninstances_max = 4\n{nf}memory_max = '256MiB'\n"));
}

#[test]
fn the_ids_has_time_outs_and_a_bound_of_its_memory() {
    let text = "[dataplane]\ninstances_max = 4\n[[nf]]\nkind = 'ids'\nattempt_timeout = '2s'\n\
                tcp_timeout = '1h'\nclosed_timeout = '3s'\nreset_timeout = '4s'\n\
                udp_timeout = '5s'\nother_timeout = '6s'\nmemory_max = '1MiB'\n";
    let config = accept(text);
    let FunctionConfig::Ids(ids) = &config.nfs()[0].function else { panic!("{config:?}") };
    let ids::Timeouts { attempt, tcp, closed, reset, udp, other } = ids.timeouts;
    let seconds = [attempt, tcp, closed, reset, udp, other].map(|timeout| timeout.as_secs());
    assert_eq!((seconds, ids.memory_max), ([2, 3600, 3, 4, 5, 6], 1 << 20));
    for key in ["attempt", "tcp", "closed", "reset", "udp", "other"] {
        for wrong in ["'0s'", "'31 parsecs'", "5", "'721h'"] {
            let text = format!("[[nf]]\nkind = 'ids'\n{key}_timeout = {wrong}\n");
            let words =
                [&format!("bad value of {key}_timeout in [[nf]]"), "\"1s\" to \"2592000s\""];
            refuse_one(&text, 3, &words);
        }
        let text = format!("[[nf]]\nkind = 'firewall'\n{key}_timeout = '5s'\n");
        refuse_one(&text, 3, &["has no use in this [[nf]]", "this is a key of the ids"]);
    }
    refuse_one("[[nf]]\nkind = 'ids'\nmemory_max = '1KiB'\n", 3, &["from 65536 to"]);
}
