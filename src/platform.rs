//! platform (being built)
pub mod contract;
pub mod credential;
#[cfg(feature = "testing")]
pub mod fake;
#[cfg(feature = "testing")]
pub mod faulty;
pub mod http;
pub mod sevenbridges;
