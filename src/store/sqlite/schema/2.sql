-- A delivery whose last attempt lies in the future was put off by a clock that was set back since.
ALTER TABLE deliveries ADD COLUMN last_attempt INTEGER;
CREATE INDEX deliveries_tried ON deliveries (endpoint, last_attempt, id) WHERE head = 1 AND last_attempt IS NOT NULL;
