//! The policy routes of the naive data plane: a list, and nothing that goes by it.

use std::collections::BTreeSet;

use tonic::{Request, Response, Status};
use weir_api::dataplane::v1::{self as api, policy_route_service_server::PolicyRouteService};

use super::fake::Shared;

/// The policy routes, the first to be asked in front.
#[derive(Default)]
pub(crate) struct Policies {
    pub(crate) list: Vec<api::PolicyRoute>,
    /// A next hop that does not answer.
    pub(crate) silent: Option<String>,
    /// Packets for which each that holds, or has held, had no room.
    pub(crate) overflow: u64,
    has_held: BTreeSet<String>,
    /// Those that hold no more because their time was over.
    lapsed: BTreeSet<String>,
    /// The time of a hold is over just before it leads.
    pub(crate) lapses_as_it_leads: bool,
    /// Those that it has when it starts: of its configuration.
    pub(crate) configured: Vec<api::PolicyRoute>,
    /// The name of one that it does not take.
    pub(crate) refused: Option<String>,
    /// The name of one that it does not take once it was started again.
    pub(crate) refused_later: Option<String>,
    /// So many requests for policies to be put are not heard.
    pub(crate) trouble: u32,
    /// So many for policies to be put of which none holds.
    pub(crate) trouble_leading: u32,
    /// It is started again as it is asked whether next hops answer, once.
    pub(crate) restarts_as_asked: bool,
    /// So many for policies to be removed.
    pub(crate) trouble_removing: u32,
}

impl Policies {
    /// It starts with those of its configuration.
    pub(crate) fn start(&mut self) {
        self.list.clone_from(&self.configured);
        self.has_held.clear();
        self.lapsed.clear();
    }

    /// All that hold for a time hold no more, as if it was over.
    pub(crate) fn lapse(&mut self) {
        for route in self.list.iter_mut().filter(|route| route.holds && route.hold_ns > 0) {
            route.holds = false;
            self.lapsed.insert(route.name.clone());
        }
    }

    fn put_all(&mut self, routes: Vec<api::PolicyRoute>) -> Result<(), Status> {
        if self.trouble_leading > 0 && routes.iter().all(|route| !route.holds) {
            self.trouble_leading -= 1;
            return Err(Status::unavailable("nobody hears it"));
        }
        if self.trouble > 0 {
            self.trouble -= 1;
            return Err(Status::unavailable("nobody hears it"));
        }
        if routes.iter().any(|route| Some(&route.name) == self.refused.as_ref()) {
            return Err(Status::failed_precondition("it is not taken"));
        }
        let before = self.list.clone();
        let put = routes.into_iter().try_for_each(|route| self.put(route));
        put.inspect_err(|_| self.list = before)
    }

    fn put(&mut self, route: api::PolicyRoute) -> Result<(), Status> {
        if route.holds {
            self.has_held.insert(route.name.clone());
            self.lapsed.remove(&route.name);
        }
        let find = |list: &[api::PolicyRoute], name: &str| list.iter().position(|p| p.name == name);
        if let Some(place) = find(&self.list, &route.name) {
            if self.lapses_as_it_leads && self.list[place].holds && !route.holds {
                self.lapsed.insert(route.name.clone());
            }
            self.list[place] = route;
            return Ok(());
        }
        let missing = || Status::not_found(format!("there is no policy {}", route.before));
        let place = match route.before.as_str() {
            "" => self.list.len(),
            before => find(&self.list, before).ok_or_else(missing)?,
        };
        self.list.insert(place, api::PolicyRoute { before: String::new(), ..route });
        Ok(())
    }
}

#[tonic::async_trait]
impl PolicyRouteService for Shared {
    async fn list_policy_routes(
        &self,
        _: Request<api::ListPolicyRoutesRequest>,
    ) -> Result<Response<api::ListPolicyRoutesResponse>, Status> {
        let (overflow, configured, has_held, lapsed) = {
            let policies = &self.model().policies;
            let (has_held, lapsed) = (policies.has_held.clone(), policies.lapsed.clone());
            (policies.overflow, policies.configured.clone(), has_held, lapsed)
        };
        let is_configured = |name: &str| configured.iter().any(|route| route.name == name);
        let shown = |route: &api::PolicyRoute| api::PolicyRouteState {
            route: Some(route.clone()),
            overflow: if has_held.contains(&route.name) { overflow } else { 0 },
            configured: is_configured(&route.name),
            lapsed: lapsed.contains(&route.name),
            ..api::PolicyRouteState::default()
        };
        let routes = self.model().policies.list.iter().map(shown).collect();
        Ok(Response::new(api::ListPolicyRoutesResponse { routes, adopted: true }))
    }

    async fn put_policy_routes(
        &self,
        request: Request<api::PutPolicyRoutesRequest>,
    ) -> Result<Response<api::PutPolicyRoutesResponse>, Status> {
        self.model().policies.put_all(request.into_inner().routes)?;
        Ok(Response::new(api::PutPolicyRoutesResponse {}))
    }

    async fn remove_policy_routes(
        &self,
        request: Request<api::RemovePolicyRoutesRequest>,
    ) -> Result<Response<api::RemovePolicyRoutesResponse>, Status> {
        let names = request.into_inner().names;
        {
            let policies = &mut self.model().policies;
            if policies.trouble_removing > 0 {
                policies.trouble_removing -= 1;
                return Err(Status::unavailable("nobody hears it"));
            }
        }
        let list = self.model().policies.list.clone();
        let removable = |name: &&String| list.iter().any(|p| p.name == **name && !p.holds);
        if let Some(name) = names.iter().find(|name| !removable(name)) {
            return Err(Status::failed_precondition(format!("{name} holds, or is not there")));
        }
        let policies = &mut self.model().policies;
        policies.list.retain(|route| !names.contains(&route.name));
        policies.has_held.retain(|held| !names.contains(held));
        Ok(Response::new(api::RemovePolicyRoutesResponse {}))
    }

    async fn probe_next_hops(
        &self,
        request: Request<api::ProbeNextHopsRequest>,
    ) -> Result<Response<api::ProbeNextHopsResponse>, Status> {
        let silent = {
            let mut model = self.model();
            if std::mem::take(&mut model.policies.restarts_as_asked) {
                model.incarnation += 2;
                model.policies.start();
                let policies = &mut model.policies;
                policies.refused = policies.refused_later.take().or(policies.refused.take());
            }
            model.policies.silent.clone()
        };
        let asked = request.into_inner().next_hops.into_iter();
        let unanswered = asked
            .filter(|hop| Some(&hop.via) == silent.as_ref())
            .map(|hop| api::Unanswered { worker: 0, next_hop: Some(hop) });
        Ok(Response::new(api::ProbeNextHopsResponse { unanswered: unanswered.collect() }))
    }
}
