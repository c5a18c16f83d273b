//! What a caller may do: roles from certificates, and the check before each request.

use std::{
    pin::Pin,
    str::FromStr,
    task::{Context, Poll},
};

use rustls::pki_types::CertificateDer;
use tonic::{Code, Status, codegen::http};
use tower::{Layer, Service};

use super::Caller;
use crate::fault::Fault;

/// What a certificate allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// May look.
    Viewer,
    /// May change.
    Operator,
}

const ROLES: [(Role, &str); 2] = [(Role::Viewer, "viewer"), (Role::Operator, "operator")];

/// The scheme of the certificate's URI that names the role, as in `weir:role/operator`.
const ROLE_URI: &str = "weir:role/";

impl Role {
    /// The URI that stands for it in a certificate.
    pub fn uri(self) -> String {
        format!("{ROLE_URI}{}", self.word())
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        ROLES.iter().find(|(_, word)| *word == text).map(|(role, _)| *role).ok_or(())
    }
}

/// The scheme of the URI that names a node, as in `weir:node/edge-1`.
const NODE_URI: &str = "weir:node/";

/// The URI that stands for a node in the certificate of its sidecar.
pub fn node_uri(name: &str) -> String {
    format!("{NODE_URI}{name}")
}

/// The role that a certificate names, if it names one.
pub fn role_of(certificate: &CertificateDer<'_>) -> Option<Role> {
    named(certificate, ROLE_URI)?.parse().ok()
}

/// The node that a certificate names, if it names one.
pub fn node_of(certificate: &CertificateDer<'_>) -> Option<String> {
    named(certificate, NODE_URI).filter(|name| !name.is_empty())
}

/// Who shows a certificate: somebody with a role, or a node.
pub(super) fn caller_of(certificate: &CertificateDer<'_>) -> Option<Caller> {
    let role = role_of(certificate).map(|role| Caller::Remote { role });
    role.or_else(|| node_of(certificate).map(|name| Caller::Node { name }))
}

/// What follows a prefix in the first URI of a certificate that has it.
fn named(certificate: &CertificateDer<'_>, prefix: &str) -> Option<String> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut names = parsed.valid_uri_names().filter_map(|uri| uri.strip_prefix(prefix));
    names.next().map(str::to_owned)
}

/// Whether a method, as in `/weir.v1.ScaleService/Scale`, may change something. Methods that
/// only look have names that begin so.
pub fn writes(path: &str) -> bool {
    const LOOKS: [&str; 4] = ["Get", "List", "Watch", "Plan"];
    let Some(method) = path.strip_prefix("/weir.v1.").and_then(|rest| rest.split('/').nth(1))
    else {
        // Health and reflection only look.
        return !path.starts_with("/grpc.");
    };
    !LOOKS.iter().any(|prefix| method.starts_with(prefix))
}

/// Checks each request before it reaches a service.
#[derive(Debug, Clone, Copy, Default)]
pub struct Authorise;

impl<S> Layer<S> for Authorise {
    type Service = Authorised<S>;

    fn layer(&self, inner: S) -> Authorised<S> {
        Authorised { inner }
    }
}

/// A service behind the check.
#[derive(Debug, Clone)]
pub struct Authorised<S> {
    inner: S,
}

impl<S, B, R> Service<http::Request<B>> for Authorised<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
    R: Default + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        match check(request.extensions().get::<Caller>(), request.uri().path()) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(fault) => {
                let refusal = Status::from(fault).into_http();
                Box::pin(async { Ok(refusal) })
            }
        }
    }
}

/// Whether a method is for the sidecars of other nodes, and for nobody else.
fn between_nodes(path: &str) -> bool {
    path.starts_with("/weir.v1.TransferService/")
}

fn check(caller: Option<&Caller>, path: &str) -> Result<(), Fault> {
    let method = path.rsplit('/').next().unwrap_or(path);
    match caller {
        Some(Caller::Node { .. }) if between_nodes(path) => Ok(()),
        Some(Caller::Node { name }) => {
            let message = format!("node {name} may bring state and nothing else: not {method}");
            Err(Fault::new(Code::PermissionDenied, "ROLE_TOO_LOW", message)
                .object(path.trim_start_matches('/'))
                .fix("use a certificate of a person: weir pki issue DIR --role operator"))
        }
        Some(_) if between_nodes(path) => Err(Fault::unknown_peer("only nodes bring state")),
        Some(Caller::Local { .. } | Caller::Remote { role: Role::Operator }) => Ok(()),
        Some(Caller::Remote { role: Role::Viewer }) if !writes(path) => Ok(()),
        Some(Caller::Remote { role: Role::Viewer }) => {
            let message = format!("a viewer may not call {method}");
            Err(Fault::new(Code::PermissionDenied, "ROLE_TOO_LOW", message)
                .object(path.trim_start_matches('/'))
                .fix("use a certificate of role operator: weir pki issue DIR --role operator"))
        }
        None => Err(Fault::new(Code::Unauthenticated, "UNKNOWN_CALLER", "who calls is not known")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_looks_and_an_operator_changes() {
        let viewer = Caller::Remote { role: Role::Viewer };
        let operator = Caller::Remote { role: Role::Operator };
        for (path, changes) in [
            ("/weir.v1.ScaleService/Scale", true),
            ("/weir.v1.ScaleService/PlanScale", false),
            ("/weir.v1.StatsService/WatchStats", false),
            ("/weir.v1.RouteService/AddRoute", true),
            ("/grpc.health.v1.Health/Check", false),
            ("/somebody.Else/GetThing", true),
        ] {
            assert_eq!(writes(path), changes, "{path}");
            assert_eq!(check(Some(&viewer), path).is_err(), changes, "{path}");
            assert_eq!(check(Some(&operator), path), Ok(()));
            assert_eq!(check(None, path).unwrap_err().code, Code::Unauthenticated);
            let node = Caller::Node { name: "edge-1".to_owned() };
            assert_eq!(check(Some(&node), path).unwrap_err().code, Code::PermissionDenied);
        }
    }

    #[test]
    fn state_is_brought_by_nodes_and_by_nobody_else() {
        let node = Caller::Node { name: "edge-1".to_owned() };
        for path in ["/weir.v1.TransferService/Transfer", "/weir.v1.TransferService/SettleTransfer"]
        {
            assert_eq!(check(Some(&node), path), Ok(()));
            let operator = Caller::Remote { role: Role::Operator };
            for caller in [operator, Caller::Local { uid: 0 }] {
                assert_eq!(check(Some(&caller), path).unwrap_err().reason, "UNKNOWN_PEER");
            }
        }
    }
}
