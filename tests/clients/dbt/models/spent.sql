{{ config(materialized='view') }}
SELECT c.name, SUM(o.amount) AS amount
FROM {{ ref('customers') }} AS c JOIN {{ ref('orders') }} AS o ON o.customer = c.id
GROUP BY c.name
