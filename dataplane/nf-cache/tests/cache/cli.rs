//! What the program says to whom it is told something that can not be.

use std::process::Command;

#[test]
fn what_can_not_be_is_refused_with_what_it_may_be() {
    for (arguments, why) in [
        (vec!["--object", "2M"], "the size of an object is 2097152: expected 0 to 917504"),
        (vec!["--store", "1K"], "the size of the store is 1024: expected 4194304 to"),
        (vec!["--connections", "0"], "the number of connections is 0: expected 1 to 16384"),
        (vec!["--store", "lots"], "expected a number of bytes, such as 4096, 32K, 256M or 1G"),
        (vec!["--idle-timeout", "0"], "expected 0.01 to 3600 seconds"),
        (vec!["--client", "10.0.0.0/99"], "invalid value '10.0.0.0/99' for '--client <PREFIX>'"),
        (vec!["--listen", "192.0.2.1:1"], "cannot listen on 192.0.2.1:1: "),
        (vec!["--listen", "127.0.0.1:0", "--southbound", "/"], "/ exists and is not a socket"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_weir-nf-cache")).args(&arguments).output();
        let output = output.expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(why), "{arguments:?}: {said}");
    }
}
