//! What a client is told when no server answers it.

use bytes::Bytes;
use hyper::{Response, StatusCode};

use super::body::Reply;

/// Why a request is not answered by a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    NoRoute,
    Malformed,
    Method,
    TooMany,
    TooLarge,
    Headers,
    ClientSilent,
    Nobody,
    Unreachable,
    Queue,
    BadAnswer,
    Silent,
}

impl Refused {
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Headers => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::ClientSilent => StatusCode::REQUEST_TIMEOUT,
            Self::Nobody | Self::Unreachable | Self::Queue => StatusCode::SERVICE_UNAVAILABLE,
            Self::BadAnswer => StatusCode::BAD_GATEWAY,
            Self::Silent => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// What the client is told.
    pub(crate) fn response(self) -> Response<Reply> {
        let text = match self {
            Self::NoRoute => "no app answers here\n",
            Self::Malformed => "the request cannot be read\n",
            Self::Method => "the method is not served here\n",
            Self::TooMany => "too many requests\n",
            Self::TooLarge => "the request body is too large\n",
            Self::Headers => "the request's header fields are too large\n",
            Self::ClientSilent => "the request took too long\n",
            Self::Nobody => "no instance is ready\n",
            Self::Unreachable => "no instance could be reached\n",
            Self::Queue => "all instances are busy\n",
            Self::BadAnswer => "the instance broke off\n",
            Self::Silent => "the instance took too long\n",
        };
        let mut response = Response::new(Reply::Own(Bytes::from_static(text.as_bytes())));
        *response.status_mut() = self.status();
        response
    }
}
