//! The end of a connection whose client may still be sending.
//!
//! A socket that is closed with bytes unread answers them with a reset, and that takes our own last words with it: an
//! alert, or a refusal. So one side is shut first, and the other read until the client ends too, or for a moment.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For what a client has on its way when it is refused, and for the refusal to arrive.
pub const LINGER: Duration = Duration::from_secs(2);

/// Says that nothing more comes, and throws away what does.
pub async fn part(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut space = [0; 4096];
    // An error ends it as the client's own end does: it has all that it will get.
    let _ = timeout(LINGER, async { while stream.read(&mut space).await.is_ok_and(|count| count > 0) {} }).await;
}
