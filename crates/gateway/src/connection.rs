//! One connection: HTTP/1.1 with keep-alive, within limits of time. What is asked on it is the service's.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use bespoke_plugin_api::CancelToken;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_io_timeout::TimeoutStream;

use crate::service::{Service, problem_text};

/// Bytes of a head, and headers in it. Servers that call hooks send less than a tenth of it.
const MOST_HEAD: usize = 32 << 10;
const MOST_HEADERS: usize = 64;
/// Bytes that are read before they are asked for, and of an answer that wait.
const BUFFER: usize = 64 << 10;
/// How long a connection that is refused may take to hear it.
const REFUSING: Duration = Duration::from_secs(1);

/// Serves it until the peer goes, is too slow, or after what it is at when `stop` is cancelled.
pub(crate) async fn serve(stream: TcpStream, service: Arc<Service>, patience: Duration, stop: CancelToken) {
    // Answers are small and nobody gains from waiting for more of them.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    // A peer that does not read its answer. Reading has limits of its own: while a plugin thinks, silence is right.
    stream.set_write_timeout(Some(patience));
    let answer = service_fn(move |request| {
        let service = service.clone();
        Box::pin(async move { Ok::<_, std::convert::Infallible>(service.answer(request).await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_headers(MOST_HEADERS)
        .max_header_size(MOST_HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(Box::pin(stream)), answer);
    let mut stopped = pin!(stop.cancelled());
    let mut told = false;
    let ended = poll_fn(|cx| {
        if !told && stopped.as_mut().poll(cx).is_ready() {
            told = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        // Without the shutdown, so that one whose head was late can still be told.
        connection.poll_without_shutdown(cx)
    })
    .await;
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner();
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
        // Who has begun a head is waiting for a word. Who sent nothing is only idle.
        if error.is_timeout() && !parts.read_buf.is_empty() {
            let _ = stream.write_all(problem_text(408, "the head of the request did not arrive in time").as_bytes()).await;
        }
    }
    farewell(&mut stream).await;
}

/// Says that there are too many.
pub(crate) async fn refuse(mut stream: TcpStream) {
    let telling = async {
        let _ = stream.write_all(problem_text(503, "there are too many connections").as_bytes()).await;
        farewell(&mut stream).await;
    };
    let _ = tokio::time::timeout(REFUSING, telling).await;
}

/// Ends a connection so that the last answer arrives: closing it while the peer's bytes lie unread would take the answer back.
async fn farewell(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut rest = [0; 4096];
    // A few buffers at most, and not for long: whoever goes on sending is cut.
    let reading = async {
        for _ in 0..64 {
            if !matches!(stream.read(&mut rest).await, Ok(1..)) {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(REFUSING, reading).await;
}
