//! The routes of a node.

use std::collections::VecDeque;
use std::net::IpAddr;

use ipnet::IpNet;
use weir_api::dataplane::v1 as api;
use weir_state_transfer::quote::quoted;

use super::{Node, NodeError};
use crate::route_table::{NextHop, RouteError};

/// Changes of the route table that readers may not have passed, oldest first: the steering
/// generation that each worker must reach, and the change of the table.
pub(super) type Barriers = VecDeque<(u64, u64)>;

impl Node {
    /// Adds a route, or replaces the one with the same prefix.
    ///
    /// # Errors
    ///
    /// When the prefix, the next hop or the port is none, when another route has the network of one
    /// of the node's own addresses, and at the bounds of the table.
    pub fn add_route(&mut self, change: &api::Change, route: &api::Route) -> Result<(), NodeError> {
        if self.requests.answer(&change.request_id).is_some() {
            return Ok(());
        }
        self.check_change(change.generation)?;
        let prefix = parse_prefix(&route.prefix)?;
        if prefix.addr().is_multicast() {
            let reason = format!("{prefix} is of groups, whose packets are not forwarded");
            return Err(NodeError::invalid("prefix", reason));
        }
        let port =
            self.port_id(&route.port).ok_or_else(|| NodeError::no("port", quoted(&route.port)))?;
        let via = match route.via.as_str() {
            "" => None,
            via => Some(self.parse_next_hop(via, Some(prefix.addr()), &route.port)?),
        };
        let hop = NextHop { port, via };
        match self.port_on(prefix) {
            Some(_) if self.routes.get(&prefix) == Some(hop) => {}
            Some(owner) => return Err(connected(prefix, owner)),
            None => {
                self.set_route(prefix, hop)?;
                self.generation += 1;
            }
        }
        self.requests.remember(&change.request_id, 1);
        Ok(())
    }

    /// Adds a route of the configuration, which is there at every start.
    ///
    /// # Errors
    ///
    /// At the bounds of the table.
    pub fn add_configured_route(&mut self, prefix: IpNet, hop: NextHop) -> Result<(), NodeError> {
        self.set_route(prefix, hop)?;
        self.configured_routes.insert(prefix);
        Ok(())
    }

    /// Adds a route that has been checked already.
    ///
    /// # Errors
    ///
    /// At the bounds of the table.
    pub fn set_route(&mut self, prefix: IpNet, hop: NextHop) -> Result<(), NodeError> {
        self.routes.add(prefix, hop).map_err(refused)?;
        self.await_readers();
        Ok(())
    }

    /// Removes the route with a prefix; the answer says whether a start brings one back.
    ///
    /// # Errors
    ///
    /// When there is none, or it is the network of one of the node's own addresses.
    pub fn remove_route(
        &mut self,
        change: &api::Change,
        prefix: &str,
    ) -> Result<api::RemoveRouteResponse, NodeError> {
        let prefix = parse_prefix(prefix)?;
        let configured = self.configured_routes.contains(&prefix);
        if self.requests.answer(&change.request_id).is_some() {
            return Ok(api::RemoveRouteResponse { configured });
        }
        self.check_change(change.generation)?;
        if self.routes.get(&prefix).is_none() {
            return Err(NodeError::no("route", prefix));
        }
        if let Some(port) = self.port_on(prefix) {
            return Err(connected(prefix, port));
        }
        self.routes.remove(prefix).map_err(refused)?;
        self.await_readers();
        self.generation += 1;
        self.requests.remember(&change.request_id, 1);
        Ok(api::RemoveRouteResponse { configured })
    }

    /// The routes, as the API shows them.
    pub fn list_routes(&self) -> impl Iterator<Item = api::Route> + '_ {
        self.routes.list().map(|(prefix, hop)| api::Route {
            prefix: prefix.to_string(),
            via: hop.via.map(|via| via.to_string()).unwrap_or_default(),
            port: self.ports.get(&hop.port).map(|port| port.name.clone()).unwrap_or_default(),
        })
    }

    /// All workers have reached a steering generation: routes changed before it are out of use.
    pub(super) fn routes_quiesced(&mut self, reached: u64) {
        while let Some((steering, routes)) = self.barriers.front().copied()
            && steering <= reached
        {
            self.routes.quiesced(routes);
            self.barriers.pop_front();
            self.await_readers();
        }
    }

    /// Has every worker pass a poll round, so that what the change took out of use can be used
    /// again.
    fn await_readers(&mut self) {
        if self.routes.awaits_readers() && self.barriers.is_empty() {
            self.publish(self.steered.steering.clone(), &[]);
            self.barriers.push_back((self.steered.generation, self.routes.generation()));
        }
    }

    /// A next hop on a network of a port, for packets of the family of an address if there is one.
    pub(super) fn parse_next_hop(
        &self,
        via: &str,
        family_of: Option<IpAddr>,
        port: &str,
    ) -> Result<IpAddr, NodeError> {
        let address: IpAddr = via.parse().map_err(|_| {
            NodeError::invalid("via", format!("{} is not an IP address", quoted(via)))
        })?;
        if let Some(other) = family_of.filter(|other| other.is_ipv4() != address.is_ipv4()) {
            let reason = format!("{address} and {other} are of different families");
            return Err(NodeError::invalid("via", reason));
        }
        if self.addresses_of(port).iter().any(|net| net.addr() == address) {
            return Err(NodeError::invalid("via", format!("{address} is this router itself")));
        }
        // Every link has a link-local network (RFC 4291 section 2.5.6), configured or not.
        let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let on_link = self.addresses_of(port).iter().any(|net| net.contains(&address));
        if !on_link && !link_local {
            let reason = format!("{address} is on no network of port {port}");
            return Err(NodeError::invalid("via", reason));
        }
        Ok(address)
    }
}

fn parse_prefix(prefix: &str) -> Result<IpNet, NodeError> {
    let net: IpNet = prefix.parse().map_err(|_| {
        let prefix = quoted(prefix);
        let reason = format!("{prefix} is not a prefix such as 10.1.0.0/16 or 2001:db8::/32");
        NodeError::invalid("prefix", reason)
    })?;
    if net.addr() == net.network() {
        return Ok(net);
    }
    let reason = format!("bits are set behind the prefix {net}; did you mean {}?", net.trunc());
    Err(NodeError::invalid("prefix", reason))
}

/// The route to a network that a port is on comes and goes with the port's address.
fn connected(prefix: IpNet, port: &str) -> NodeError {
    let reason = format!("is the network of an address of port {port}");
    NodeError::precondition(format!("route {prefix}"), reason)
}

fn refused(error: RouteError) -> NodeError {
    NodeError::invalid("route", error)
}
