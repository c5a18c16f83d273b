//! `[[control.nf]]`: what tells network functions in processes of their own apart.

use std::path::{Component, Path, PathBuf};

use toml::de::DeTable;

use super::{
    Control, NFS_MAX,
    check::{self, WORD, is_word, key_span},
    legs,
    report::Fault,
};

/// Names of network functions are words, each of one function as each socket is, and not too many.
/// Legs name ports that there are, where the file has any.
pub(super) fn check(
    control: &Control,
    tables: &[&DeTable<'_>],
    ports: &[&str],
    faults: &mut Vec<Fault>,
) {
    let nfs = &control.nf;
    for (place, (nf, table)) in nfs.iter().zip(tables).enumerate() {
        let span = key_span(table, "name");
        if !is_word(&nf.name) {
            let title = format!("{:?} can not be the name of a network function", nf.name);
            let fault = Fault::new(span, title, "not a name");
            faults.push(fault.fix(WORD));
        } else if nfs[..place].iter().any(|other| other.name == nf.name) {
            let title = format!("two network functions are called {}", nf.name);
            faults.push(Fault::new(span, title, "the second"));
        }
        if let Some(other) = other_at_socket(control, place) {
            let title = format!("{other} and {} have the same socket", nf.name);
            let fault = Fault::new(key_span(table, "socket"), title, "the second");
            faults.push(fault.fix("each is a process of its own: give it a socket of its own"));
        }
        legs::check(nf, key_span(table, "leg"), faults);
        legs::check_ports(nf, &check::tables(table, "leg"), ports, faults);
        if place == NFS_MAX {
            let title = format!("more than {NFS_MAX} network functions in processes of their own");
            faults.push(Fault::new(key_span(table, "name"), title, "one too many"));
        }
    }
}

/// Who else has the socket of a network function, by what is written: links are followed when an
/// operation begins.
fn other_at_socket(control: &Control, place: usize) -> Option<&str> {
    let nf = control.nf[..place].iter().map(|nf| (&*nf.name, &nf.socket));
    let socket = plain(&control.nf[place].socket);
    [("the sidecar", &control.socket), ("the data plane", &control.dataplane_socket)]
        .into_iter()
        .chain(nf)
        .find_map(|(name, other)| (plain(other) == socket).then_some(name))
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if plain.file_name().is_some() => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::{
        super::check::{parse, tests::faults},
        *,
    };

    #[test]
    fn network_functions_have_names_of_their_own_and_are_not_too_many() {
        let nf = |name: &str| format!("[[control.nf]]\nname = '{name}'\nsocket = '/{name}'\n");
        let found = parse(&(nf("one") + &nf("two.2")), "weir.toml").unwrap().control.nf;
        assert_eq!((found.len(), &*found[1].name), (2, "two.2"));
        assert_eq!(faults(&(nf("one") + &nf("one")))[0].0, 5);
        let many: String = (0..=NFS_MAX).map(|number| nf(&number.to_string())).collect();
        assert!(faults(&many)[0].1.contains("more than 16"));
    }

    #[test]
    fn legs_are_at_ports_that_the_file_has_if_it_has_any() {
        let nf = "[[control.nf]]\nname = 'fw'\nsocket = '/fw'\n[[control.nf.leg]]\nname = 'in'\n\
                  from = 'sap1'\nvia = '10.0.0.1'\nport = 'sap9'\n";
        parse(nf, "weir.toml").unwrap();
        let port = |name: &str| format!("[[port]]\nname = '{name}'\n");
        parse(&(nf.to_owned() + &port("sap1") + &port("sap9")), "weir.toml").unwrap();
        let found = faults(&(nf.to_owned() + &port("sap1") + &port("sap3")));
        assert_eq!((found.len(), found[0].0), (1, 8), "{found:?}");
        assert!(found[0].1.contains("leg in of fw") && found[0].2.contains("sap"), "{found:?}");
    }

    #[test]
    fn a_socket_is_of_one_network_function_however_its_path_is_written() {
        let nf = |name: &str, path: &str| {
            format!("[[control.nf]]\nname = '{name}'\nsocket = '{path}'\n")
        };
        for other in ["/run/a.sock", "/run//a.sock", "/run/./a.sock", "/run/x/../a.sock"] {
            let found = faults(&(nf("one", "/run/a.sock") + &nf("two", other)));
            assert_eq!((found.len(), found[0].0), (1, 6), "{other}: {found:?}");
            assert!(found[0].1.contains("one and two have the same socket"), "{found:?}");
        }
        let found = faults(&nf("one", "/run/weir/dataplane.sock"));
        assert!(found[0].1.contains("the data plane and one"), "{found:?}");
        for other in ["/run/b.sock", "/a.sock", "run/a.sock", "../run/a.sock"] {
            parse(&(nf("one", "/run/a.sock") + &nf("two", other)), "weir.toml").unwrap();
        }
    }
}
