//! A new configuration without a stop. A bad one is refused, and the old one stays in force.

use std::sync::Arc;

use super::build::{Error, engine_settings, world};
use super::perform::World;
use super::{Daemon, told};
use crate::config::Config;
use crate::engine::event::Event;
use crate::sdnotify;

impl Daemon {
    /// Reads the configuration again and applies it. Acts on their way end under the old one.
    pub(super) fn reload(&mut self) {
        told(sdnotify::reloading());
        match (self.setup.reader)() {
            Err(problems) => {
                tracing::error!("the configuration is refused, the old one stays: {problems}")
            }
            Ok(config) if config.state_directory != self.setup.config.state_directory => {
                tracing::error!(
                    "[state] directory cannot change without a new start; the old configuration stays"
                );
            }
            Ok(config) => match self.world_of(&config) {
                Err(error) => {
                    tracing::error!("the configuration is refused, the old one stays: {error}")
                }
                Ok(world) => {
                    self.world = Arc::new(world);
                    self.tell(Event::Reconfigured(engine_settings(&config)));
                    // A halted destination may have been given another credential.
                    let targets = config.destinations.iter().map(|target| target.name.clone());
                    targets.for_each(|destination| {
                        self.tell(Event::CredentialChanged { destination })
                    });
                    self.watchers.abort_all();
                    self.start_watches();
                    self.setup.config = config;
                    self.care.configure(&self.setup.config.care, self.clock.now().monotonic);
                    self.rates.configure(&self.setup.config.transfer);
                    self.follow_rates();
                    tracing::info!("the configuration was read again");
                }
            },
        }
        told(sdnotify::ready("the configuration was read again"));
    }
    fn world_of(&self, config: &Config) -> Result<World, Error> {
        let (events, bandwidth) = (self.world.events.clone(), Arc::clone(&self.world.bandwidth));
        world(config, &self.clock, events, bandwidth)
    }
}
