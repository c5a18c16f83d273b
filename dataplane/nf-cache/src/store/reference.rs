//! That a client has fetched an object: what a chunk of the store is about.

use std::net::IpAddr;
use std::rc::Rc;

use weir_state_transfer::flow_id::{Ends, Extra, FlowId};
use weir_state_transfer::id::ServiceId;

use super::url::Url;

/// That a client has fetched an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    pub(crate) url: Url,
    /// The name of the variant, of an object that is one of several.
    pub(crate) variant: Option<Rc<str>>,
    pub(crate) client: IpAddr,
}

impl Reference {
    /// The flow id of it: the client as a host, and fields of its own for the rest.
    pub(crate) fn id(&self) -> FlowId {
        let variant = self.variant.as_deref().map(|variant| ("cache.variant", variant));
        let fields = [("http.host", self.url.host()), ("http.url", self.url.as_str())];
        let id = FlowId::host(self.client, ServiceId(0));
        fields.into_iter().chain(variant).fold(id, |id, (name, value)| {
            let extra = Extra::new(name, value).expect("a URL is made to be one");
            id.with(extra).expect("they are three")
        })
    }

    /// The reference that a flow id is of, if it is of one.
    pub(crate) fn of(id: &FlowId) -> Option<Self> {
        let Ends::Host(prefix) = &id.ends else { return None };
        let field =
            |name: &str| id.extras().iter().find(|extra| extra.name() == name).map(Extra::value);
        let url = Url::of_text(field("http.url")?)?;
        let variant = field("cache.variant").map(Into::into);
        let reference = Self { url, variant, client: prefix.address() };
        (reference.id() == *id).then_some(reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_state_transfer::flow_id::Extent;
    use weir_state_transfer::state_filter::StateFilter;

    fn reference() -> Reference {
        let url = Url::of_text("http://a.example/b,c?d").expect("a URL");
        Reference { url, variant: Some("12".into()), client: [10, 0, 0, 5].into() }
    }

    #[test]
    fn a_flow_id_is_of_the_reference_that_made_it_and_no_other_is() {
        let id = reference().id();
        assert_eq!(Reference::of(&id), Some(reference()));
        let host = FlowId::host([10, 0, 0, 5].into(), ServiceId(0));
        assert_eq!(Reference::of(&host), None);
        let other = id.clone().with(Extra::new("x.y", "z").expect("a field")).expect("room");
        assert_eq!(Reference::of(&other), None);
    }

    #[test]
    fn filters_pick_objects_by_client_by_host_and_by_both() {
        for (filter, picked) in [
            ("src=10.0.0.5", true),
            ("src=10.0.0.0/8,dport=80", true),
            ("src=10.0.0.6", false),
            ("http.host=a.example", true),
            ("http.host=b.example", false),
            ("src=10.0.0.5,http.host=a.example", true),
            ("http.url=\"http://a.example/b,c?d\"", true),
            ("any", true),
        ] {
            let filter: StateFilter = filter.parse().expect("a filter");
            for extent in [Extent::Overlaps, Extent::Contains] {
                assert_eq!(filter.picks(&reference().id(), extent), picked, "{filter}");
            }
        }
    }
}
