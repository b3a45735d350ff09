//! The body of an answer as a stream: piece by piece, as its reader asks for it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bespoke_plugin_api::{Code, Error, Result, bytes::Bytes};
use futures_core::Stream;
use hyper::body::{Body as _, Incoming};

use crate::client::chain;

/// Dropping it closes the connection, unless the body is over.
pub(crate) struct Body {
    /// `None` once it has failed.
    incoming: Option<Incoming>,
    /// Where it comes from, for errors.
    from: String,
}

impl Body {
    pub(crate) fn new(incoming: Incoming, from: String) -> Self {
        Body { incoming: Some(incoming), from }
    }
}

impl Stream for Body {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
            match ready!(Pin::new(incoming).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Ok(frame)) => {
                    // What is no data is headers after the body: nobody was told to expect them.
                    if let Ok(piece) = frame.into_data() {
                        return Poll::Ready(Some(Ok(piece)));
                    }
                }
                Some(Err(error)) => {
                    self.incoming = None;
                    let message = format!("the answer of {} broke off: {}", self.from, chain(&error));
                    return Poll::Ready(Some(Err(Error::new(Code::NETWORK_FAILED, message).retryable())));
                }
            }
        }
    }
}
