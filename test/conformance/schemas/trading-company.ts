/**
 * A trading company: names with spaces and keywords, customers by a short code, order lines by a composite key, codes that
 * change with ON UPDATE CASCADE, views over views.
 */
import { inserts, rows } from '../../support/chance.ts';
import type { WildSchema } from './schema.ts';

const code = (n: number, who: string): string => `${who}${String.fromCodePoint(65 + n)}${String(n).padStart(3, '0')}`;

export const tradingCompany: WildSchema = {
  name: 'a trading company',
  ddl: `
    CREATE TABLE [Categories] (
      [CategoryID] INTEGER PRIMARY KEY AUTOINCREMENT, [CategoryName] TEXT UNIQUE, [Description] TEXT, [Picture] BLOB
    );
    CREATE TABLE [Suppliers] ([SupplierID] INTEGER PRIMARY KEY AUTOINCREMENT, [Company Name] TEXT NOT NULL, [Home Page] TEXT);
    CREATE TABLE [Customers] ([CustomerID] TEXT PRIMARY KEY, [Company Name] TEXT, [Region] TEXT, [Phone] TEXT);
    CREATE TABLE [Employees] (
      [EmployeeID] INTEGER PRIMARY KEY AUTOINCREMENT, [LastName] TEXT NOT NULL, [BirthDate] DATE, [Notes] TEXT, [Photo] BLOB,
      [ReportsTo] INTEGER REFERENCES [Employees] ([EmployeeID]) ON DELETE SET NULL
    );
    CREATE TABLE [Products] (
      [ProductID] INTEGER PRIMARY KEY AUTOINCREMENT, [ProductName] TEXT NOT NULL,
      [SupplierID] INTEGER REFERENCES [Suppliers] ON DELETE SET NULL,
      [CategoryID] INTEGER REFERENCES [Categories] ON DELETE SET NULL,
      [UnitPrice] NUMERIC DEFAULT 0 CHECK ([UnitPrice] >= 0), [UnitsInStock] INTEGER DEFAULT 0 CHECK ([UnitsInStock] >= 0),
      [Discontinued] TEXT NOT NULL DEFAULT '0'
    );
    CREATE TABLE [Shippers] ([ShipperID] INTEGER PRIMARY KEY AUTOINCREMENT, [Company Name] TEXT NOT NULL);
    CREATE TABLE [Orders] (
      [OrderID] INTEGER PRIMARY KEY AUTOINCREMENT, [CustomerID] TEXT REFERENCES [Customers] ON UPDATE CASCADE ON DELETE SET NULL,
      [EmployeeID] INTEGER REFERENCES [Employees] ON DELETE SET NULL, [Order Date] DATETIME, [Freight] NUMERIC DEFAULT 0,
      [ShipVia] INTEGER REFERENCES [Shippers] ([ShipperID]) ON DELETE SET NULL
    );
    CREATE TABLE "Order Details" (
      "OrderID" INTEGER NOT NULL REFERENCES [Orders] ON DELETE CASCADE, "ProductID" INTEGER NOT NULL REFERENCES [Products],
      "UnitPrice" NUMERIC NOT NULL DEFAULT 0, "Quantity" INTEGER NOT NULL DEFAULT 1 CHECK ("Quantity" > 0),
      "Discount" REAL NOT NULL DEFAULT 0 CHECK ("Discount" BETWEEN 0 AND 1), PRIMARY KEY ("OrderID", "ProductID")
    );
    CREATE TABLE [Region] ([RegionID] INTEGER NOT NULL PRIMARY KEY, [RegionDescription] TEXT NOT NULL UNIQUE);
    CREATE TABLE [Territories] (
      [TerritoryID] TEXT NOT NULL PRIMARY KEY, [TerritoryDescription] TEXT NOT NULL,
      [RegionID] INTEGER NOT NULL REFERENCES [Region] ON DELETE CASCADE
    );
    CREATE TABLE [EmployeeTerritories] (
      [EmployeeID] INTEGER NOT NULL REFERENCES [Employees] ON DELETE CASCADE,
      [TerritoryID] TEXT NOT NULL REFERENCES [Territories] ON DELETE CASCADE, PRIMARY KEY ([EmployeeID], [TerritoryID])
    );
    CREATE INDEX [Orders by customer] ON [Orders] ([CustomerID], [Order Date] DESC);
    CREATE VIEW [Order Subtotals] AS
      SELECT "Order Details".OrderID, sum("Order Details".UnitPrice * Quantity * (1 - Discount)) AS Subtotal
      FROM "Order Details" GROUP BY "Order Details".OrderID;
    CREATE VIEW [Customer Turnover] AS
      SELECT c.[Company Name] AS [Company], total(s.Subtotal) AS [Turnover] FROM [Customers] c
      LEFT JOIN [Orders] o ON o.CustomerID = c.CustomerID LEFT JOIN [Order Subtotals] s ON s.OrderID = o.OrderID
      GROUP BY c.CustomerID;`,
  config: { tables: { Categories: { identity: 'CategoryName' }, Region: { identity: 'RegionDescription' } } },

  fill: (chance, who) =>
    [
      rows('Categories', 4, (n) => ({
        CategoryID: n,
        CategoryName: ['Sweets', 'Tools', 'Cloth', `Own of ${who}`][n - 1],
        Description: chance.title(6),
        Picture: chance.blob(chance.between(0, 60)),
      })),
      rows('Suppliers', 5, (n) => ({ SupplierID: n * 10, 'Company Name': chance.title(2), 'Home Page': null })),
      rows('Customers', 7, (n) => ({
        CustomerID: code(n, who),
        'Company Name': chance.title(),
        Region: chance.pick(['North', 'South', null]),
        Phone: String(chance.between(100_000, 999_999)),
      })),
      rows('Employees', 6, (n) => ({
        EmployeeID: n,
        LastName: chance.name(),
        BirthDate: chance.date().slice(0, 10),
        Notes: chance.title(8),
        Photo: chance.happens(0.5) ? chance.blob(33) : null,
        ReportsTo: n < 2 ? null : chance.between(1, n - 1),
      })),
      rows('Products', 20, (n) => ({
        ProductID: n,
        ProductName: chance.title(),
        SupplierID: chance.happens(0.1) ? null : chance.between(1, 5) * 10,
        CategoryID: chance.between(1, 4),
        UnitPrice: chance.pick([4, 9.5, 18.75, 120]),
        UnitsInStock: chance.between(0, 90),
        Discontinued: chance.pick(['0', '1']),
      })),
      rows('Shippers', 3, (n) => ({ ShipperID: n, 'Company Name': chance.title(2) })),
      rows('Orders', 18, (n) => ({
        OrderID: 10_000 + n,
        CustomerID: code(chance.between(1, 7), who),
        EmployeeID: chance.between(1, 6),
        'Order Date': chance.date(),
        Freight: chance.between(1, 900) / 10,
        ShipVia: chance.between(1, 3),
      })),
      inserts(
        'Order Details',
        chance.pairs(45, 18, 20).map(([order, ProductID]) => ({
          OrderID: 10_000 + order,
          ProductID,
          UnitPrice: chance.pick([4, 9.5]),
          Quantity: chance.between(1, 40),
          Discount: chance.pick([0, 0.05, 0.25]),
        })),
      ),
      rows('Region', 2, (n) => ({ RegionID: n, RegionDescription: ['Inland', 'Coast'][n - 1] })),
      rows('Territories', 8, (n) => ({
        TerritoryID: String(10_000 + n * 7),
        TerritoryDescription: `Around ${n}`,
        RegionID: 1 + (n % 2),
      })),
      inserts(
        'EmployeeTerritories',
        chance.pairs(12, 6, 8).map(([EmployeeID, n]) => ({ EmployeeID, TerritoryID: String(10_000 + n * 7) })),
      ),
    ].join(''),

  scripts: [
    {
      does: 'takes an order of several lines and takes them out of the stock',
      run(hand) {
        const customer = hand.one('SELECT CustomerID FROM Customers');
        hand.run('INSERT INTO Orders (CustomerID, [Order Date]) VALUES (?, ?)', customer, hand.fresh());
        for (let line = 0; line < 3; line += 1) {
          const product = hand.one('SELECT ProductID FROM Products WHERE UnitsInStock > 5');
          if (product === undefined) continue;
          hand.run(
            `INSERT INTO "Order Details" (OrderID, ProductID, UnitPrice, Quantity)
             SELECT (SELECT max(OrderID) FROM Orders), ProductID, UnitPrice, 2 FROM Products WHERE ProductID = ?
             ON CONFLICT (OrderID, ProductID) DO UPDATE SET Quantity = Quantity + excluded.Quantity`,
            product,
          );
          hand.run('UPDATE Products SET UnitsInStock = UnitsInStock - 2 WHERE ProductID = ?', product);
        }
      },
    },
    {
      does: 'cancels an order with its lines',
      run: (hand) => hand.run('DELETE FROM Orders WHERE OrderID = ?', hand.one('SELECT OrderID FROM Orders')),
    },
    {
      does: 'changes the quantity of a line',
      run: (hand) =>
        hand.run(
          'UPDATE "Order Details" SET Quantity = ?, Discount = 0.1 WHERE rowid = ?',
          hand.chance.between(1, 99),
          hand.one('SELECT rowid FROM "Order Details"'),
        ),
    },
    {
      does: 'dismisses an employee: orders stay, those who reported report to nobody',
      run: (hand) =>
        hand.run('DELETE FROM Employees WHERE EmployeeID = ?', hand.one('SELECT EmployeeID FROM Employees')),
    },
    {
      does: 'gives an employee a territory',
      run: (hand) =>
        hand.run(
          'INSERT OR REPLACE INTO EmployeeTerritories (EmployeeID, TerritoryID) VALUES (?, ?)',
          hand.one('SELECT EmployeeID FROM Employees'),
          hand.one('SELECT TerritoryID FROM Territories'),
        ),
    },
    {
      does: 'moves products of one supplier to another by UPDATE FROM',
      run: (hand) =>
        hand.run(
          `UPDATE Products SET SupplierID = other.SupplierID FROM (SELECT ? AS SupplierID, ? AS word) AS other
           WHERE Products.SupplierID = ?`,
          hand.one('SELECT SupplierID FROM Suppliers'),
          hand.fresh(),
          hand.one('SELECT SupplierID FROM Suppliers'),
        ),
    },
    {
      does: 'changes the phone of a customer',
      run: (hand) =>
        hand.run(
          'UPDATE Customers SET Phone = ? WHERE CustomerID = ?',
          hand.fresh(),
          hand.one('SELECT CustomerID FROM Customers'),
        ),
    },
    {
      does: 'gives a customer another code, which its orders follow',
      hard: true,
      run: (hand) =>
        hand.run(
          'UPDATE Customers SET CustomerID = ? WHERE CustomerID = ?',
          hand.fresh().slice(0, 12),
          hand.one('SELECT CustomerID FROM Customers'),
        ),
    },
    {
      does: 'takes a product out of the list that no order names',
      hard: true,
      run: (hand) =>
        hand.run(
          'DELETE FROM Products WHERE ProductID = ?',
          hand.one('SELECT ProductID FROM Products WHERE ProductID NOT IN (SELECT ProductID FROM "Order Details")'),
        ),
    },
  ],
  shows: {
    turnover: 'SELECT [Company], round([Turnover], 6) FROM [Customer Turnover] ORDER BY 1, 2',
    territories: `SELECT LastName, TerritoryDescription, RegionDescription FROM EmployeeTerritories JOIN Employees USING (EmployeeID)
      JOIN Territories USING (TerritoryID) JOIN Region USING (RegionID) ORDER BY 1, 2, 3`,
  },
  strays: {},
  collisions: 'may wait',
};
