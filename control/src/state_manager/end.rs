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
    },
    /// A network function in a process of its own, by its name in the configuration.
    Nf(String),
}

impl End {
    /// The number of an instance.
    pub fn number(&self) -> Option<u32> {
        match self {
            Self::Instance { id, .. } => Some(*id),
            Self::Nf(_) => None,
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
}

impl<'a> Called<'a> {
    /// Takes `instance/NAME`, `nf/NAME` and `NAME` apart.
    pub fn of(text: &'a str) -> Self {
        match text.split_once('/') {
            Some(("instance", name)) => Self::Instance(name),
            Some(("nf", name)) => Self::Nf(name),
            _ => Self::Either(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_called_by_what_it_is_shown_as_or_by_its_name() {
        let instance = End::Instance { id: 3, name: "sw3".to_owned() };
        assert_eq!(Called::of(&instance.to_string()), Called::Instance("sw3"));
        assert_eq!(Called::of(&End::Nf("ids".to_owned()).to_string()), Called::Nf("ids"));
        assert_eq!(Called::of("sw3"), Called::Either("sw3"));
        assert_eq!(Called::of("port/x"), Called::Either("port/x"));
    }
}
