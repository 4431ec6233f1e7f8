{{ config(materialized='table') }}
SELECT 1 AS id, 'Ada' AS name UNION ALL SELECT 2, 'Bo'
