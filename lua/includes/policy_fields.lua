-- How a SKU may be sold, field by field, in the order of every reply. A category has the same fields as defaults.
local POLICY_FIELDS = {
  'safety_stock_units', 'safety_stock_basis_points', 'backorder_limit', 'low_stock_threshold',
  'max_quantity_per_reservation', 'reconciliation_hold_us', 'lead_time_days', 'next_restock_date', 'incoming',
  'substitutes', 'variant_group', 'category', 'channel_limits', 'degraded_policy',
}
