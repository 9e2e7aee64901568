pub async fn fetch(_a: std::net::SocketAddr, _k: &str) -> anyhow::Result<serde_json::Value> {
    anyhow::bail!("stub")
}
pub async fn health(_a: std::net::SocketAddr) -> anyhow::Result<()> {
    anyhow::bail!("stub")
}
