//! Why a request is not answered by an origin or the store, by name.

use http::StatusCode;

/// Why a request is refused, or has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The target is not an absolute `http` URL: the proxy is no origin.
    NotAbsolute,
    /// The target is of a scheme other than `http`.
    Scheme,
    /// The target has a user name in it (RFC 9110, section 4.2.4).
    UserInformation,
    /// There is no `Host`, or more than one (RFC 9112, section 3.2).
    Host,
    /// The body has both a length and an encoding (RFC 9112, section 6.1).
    LengthAndEncoding,
    /// The body is encoded by something else than `chunked`.
    Encoding,
    /// The body is not what its head or its chunks say: a size is none, or it ends too early.
    Body,
    /// The request has come by here already.
    Loop,
    /// CONNECT to something that is no host and port.
    ConnectTarget,
    /// CONNECT to a port that it may not go to.
    ConnectPort,
    /// A host that is this machine, or on a link of it, where that is not permitted.
    ToLocal,
    /// A method that the proxy does not pass on.
    Method,
    /// There is no object, and the client wants no other answer.
    OnlyIfCached,
    /// The name of the origin has no address.
    Dns,
    /// Nobody says in time what the address of the origin is.
    DnsTimeout,
    /// There is no way to the address of the origin.
    Unroutable,
    /// Nobody listens at the origin's port.
    ConnectionRefused,
    /// The origin does not take the connection in time.
    ConnectTimeout,
    /// The origin can not be reached for another reason.
    Unreachable,
    /// The origin has the connection, and takes too long.
    UpstreamTimeout,
    /// The origin does not answer in HTTP.
    UpstreamProtocol,
}

impl Refusal {
    /// The status of the answer.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::NotAbsolute
            | Self::Scheme
            | Self::UserInformation
            | Self::Host
            | Self::LengthAndEncoding
            | Self::Body
            | Self::ConnectTarget => StatusCode::BAD_REQUEST,
            Self::Encoding | Self::Method => StatusCode::NOT_IMPLEMENTED,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::ConnectPort | Self::ToLocal => StatusCode::FORBIDDEN,
            Self::OnlyIfCached
            | Self::DnsTimeout
            | Self::ConnectTimeout
            | Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Dns
            | Self::Unroutable
            | Self::ConnectionRefused
            | Self::Unreachable
            | Self::UpstreamProtocol => StatusCode::BAD_GATEWAY,
        }
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NotAbsolute => "not-absolute",
            Self::Scheme => "scheme",
            Self::UserInformation => "user-information",
            Self::Host => "host",
            Self::LengthAndEncoding => "length-and-encoding",
            Self::Encoding => "encoding",
            Self::Body => "body",
            Self::Loop => "loop",
            Self::ConnectTarget => "connect-target",
            Self::ConnectPort => "connect-port",
            Self::ToLocal => "to-local",
            Self::Method => "method",
            Self::OnlyIfCached => "only-if-cached",
            Self::Dns => "dns",
            Self::DnsTimeout => "dns-timeout",
            Self::Unroutable => "unroutable",
            Self::ConnectionRefused => "connection-refused",
            Self::ConnectTimeout => "connect-timeout",
            Self::Unreachable => "unreachable",
            Self::UpstreamTimeout => "upstream-timeout",
            Self::UpstreamProtocol => "upstream-protocol",
        }
    }

    /// The error type of it (RFC 9209, section 2.3).
    pub(crate) fn error(self) -> &'static str {
        match self {
            Self::Loop => "proxy_loop_detected",
            Self::ConnectPort | Self::OnlyIfCached => "http_request_denied",
            Self::ToLocal => "destination_ip_prohibited",
            Self::Dns => "dns_error",
            Self::DnsTimeout => "dns_timeout",
            Self::Unroutable => "destination_ip_unroutable",
            Self::ConnectionRefused => "connection_refused",
            Self::ConnectTimeout => "connection_timeout",
            Self::Unreachable => "destination_unavailable",
            Self::UpstreamTimeout => "connection_read_timeout",
            Self::UpstreamProtocol => "http_protocol_error",
            _ => "http_request_error",
        }
    }

    /// Whether what follows on the connection can not be trusted to be a request.
    pub(crate) fn ends_connection(self) -> bool {
        matches!(self, Self::Host | Self::LengthAndEncoding | Self::Encoding | Self::Body)
    }
}
