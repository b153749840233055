-- What status shows is found by an index, however many rows there are beside it.
CREATE INDEX outbox_given_up ON outbox (id) WHERE given_up_at_ns IS NOT NULL;
CREATE INDEX ignored_newest ON ignored (at_ns DESC);
CREATE INDEX units_newest ON units (opened_at_ns DESC, unit);
