//! The ends of state: instances, and network functions in processes of their own.

use std::fmt;

/// Where state is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// An instance of the data plane.
    Instance {
        /// Its number.
        id: u32,
        /// Its name.
        name: String,
        /// Its life: another may get its number and its name.
        life: u64,
    },
    /// A network function in a process of its own, by its name in the configuration.
    Nf(String),
    /// An end of another node.
    Peer {
        /// The node, by its name in the configuration.
        peer: String,
        /// What it calls the end.
        end: String,
    },
}

impl End {
    /// The number of an instance.
    pub fn number(&self) -> Option<u32> {
        match self {
            Self::Instance { id, .. } => Some(*id),
            Self::Nf(_) | Self::Peer { .. } => None,
        }
    }

    /// Whether it is an instance.
    pub fn is_instance(&self) -> bool {
        matches!(self, Self::Instance { .. })
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance { name, .. } => write!(f, "instance/{name}"),
            Self::Nf(name) => write!(f, "nf/{name}"),
            Self::Peer { peer, end } => write!(f, "{peer}/{end}"),
        }
    }
}

/// What a request calls an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Called<'a> {
    /// An instance, by name or number.
    Instance(&'a str),
    /// A network function.
    Nf(&'a str),
    /// A network function if there is one of that name, else an instance.
    Either(&'a str),
    /// An end of another node.
    Peer {
        /// The node.
        peer: &'a str,
        /// What that is to call the end.
        end: &'a str,
    },
}

impl<'a> Called<'a> {
    /// Takes `instance/NAME`, `nf/NAME`, `NAME` and each of these behind `PEER/` apart.
    pub fn of(text: &'a str) -> Self {
        match text.split_once('/') {
            Some(("instance", name)) => Self::Instance(name),
            Some(("nf", name)) => Self::Nf(name),
            Some((peer, end)) => Self::Peer { peer, end },
            None => Self::Either(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_called_by_what_it_is_shown_as_or_by_its_name() {
        let instance = End::Instance { id: 3, name: "sw3".to_owned(), life: 1 };
        assert_eq!(Called::of(&instance.to_string()), Called::Instance("sw3"));
        assert_eq!(Called::of(&End::Nf("ids".to_owned()).to_string()), Called::Nf("ids"));
        assert_eq!(Called::of("sw3"), Called::Either("sw3"));
        let there = End::Peer { peer: "edge-2".to_owned(), end: "nf/ids".to_owned() };
        let called = Called::Peer { peer: "edge-2", end: "nf/ids" };
        assert_eq!(Called::of(&there.to_string()), called);
        assert_eq!(Called::of("edge-2/ids"), Called::Peer { peer: "edge-2", end: "ids" });
    }
}
