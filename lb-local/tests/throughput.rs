//! Requests a second through the balancer against those without it. The program, the load and the
//! balancer share the machine and this process: only the ratio means something.
//!
//! `cargo test --release -p lb-local --test throughput -- --ignored --nocapture`

#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lb_core::*;
use lb_local::LocalBalancer;
use support::*;

const CONNECTIONS: usize = 32;
const ROUND: Duration = Duration::from_secs(1);
const ROUNDS: usize = 10;

async fn round(to: SocketAddr) -> f64 {
    let begun = Instant::now();
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            tokio::spawn(async move {
                let mut sender = connect(to).await;
                let mut answered = 0u32;
                while begun.elapsed() < ROUND {
                    let request = request("GET", "/").body(empty()).unwrap();
                    assert_eq!(send(&mut sender, request).await.unwrap().status, 200);
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    let mut answered = 0;
    for client in clients {
        answered += client.await.unwrap();
    }
    f64::from(answered) / begun.elapsed().as_secs_f64()
}

#[test]
#[ignore = "measures: run with --release and --nocapture"]
fn direct_and_through() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let net = Net::new();
        let mut sites = Vec::new();
        for n in 0..4 {
            sites.push(Site::start(net.server(n)).await);
        }
        let addresses: Vec<_> = sites.iter().map(|s| s.address).collect();
        let mut spec = backend(Protocol::Http, &addresses);
        spec.balance = Balance::LeastConnections;
        let balancer = LocalBalancer::on(net.ip(1));
        apply(&balancer, &http_table(spec)).await;
        let (mut direct, mut through) = (Vec::new(), Vec::new());
        for n in 0..ROUNDS {
            direct.push(round(addresses[n % addresses.len()]).await);
            through.push(round(net.listener()).await);
        }
        let mean = |rates: &[f64]| rates.iter().sum::<f64>() / rates.len() as f64;
        let (direct, through) = (mean(&direct), mean(&through));
        assert_eq!(traffic(&balancer).await.failures, 0);
        println!(
            "{{\"direct\":{direct:.0},\"through\":{through:.0},\"ratio\":{:.2}}}",
            through / direct
        );
        assert!(through > direct / 20.0);
    });
}
