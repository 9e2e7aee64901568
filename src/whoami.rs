pub async fn serve(_l: tokio::net::TcpListener, _n: Option<String>, stop: tokio_util::sync::CancellationToken) {
    stop.cancelled().await
}
